"""What normal images cost a score: few-shot against zero-shot, encoding included, by the size of the bank.

    python benchmarks/search.py --data mvtec:/data/mvtec_ad --dtype bfloat16

Banks of good photos of the first category, mirrored ones after them where there are too few. All sizes alternate in one
process; what is printed are medians of this process's CPU time for an image, and their ratio to zero-shot, which shared
machines change least with one thread. "not the nearest" and "farther by" are what the search in groups loses: the share
of patches that have a nearer normal token, and by how much of the mean distance all are farther.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import datasets
import torch
from PIL import Image, ImageOps
from tqdm import tqdm
from turns import in_turn

from adaptclip_hf import AnomalyDetector, PromptBank
from adaptclip_hf.data import load_data_set
from adaptclip_hf.engine import PlainReference
from adaptclip_hf.model_files import DEFAULT_NAME
from adaptclip_hf.modeling.alignment import cosine_distance, nearest_tokens
from adaptclip_hf.modeling.prompt_query_adapter import unit_patch_tokens
from adaptclip_hf.modeling.vision_encoder import ImageFeatures
from adaptclip_hf.processing.image_loading import load_image


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="SPEC")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 4, 20, 40, 64, 256])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=5, help="rounds after one to warm up (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = list(load_data_set(args.data).cast_column("image", datasets.Image(decode=False)))
    rows = [row for row in rows if row["category"] == rows[0]["category"]]
    normal = [load_image(row["image"]) for row in rows if row["split"] == "train"]
    normal += [ImageOps.mirror(image) for image in normal]
    tests = [load_image(row["image"]) for row in rows if row["split"] == "test"]
    tests = tests[:: max(1, len(tests) // max(args.batch))][: max(args.batch)]
    print("| dtype | batch | normal images | tokens | ms an image | x zero-shot | not the nearest | farther by |")
    print("|---|---|---|---|---|---|---|---|")
    for dtype in args.dtype:
        detector = AnomalyDetector.from_pretrained(args.model, device="cpu", dtype=dtype)
        whole = bank_of(detector, normal[: max(args.sizes)])
        pixels = torch.cat([detector.pixel_values(image) for image in tests])
        banks = [
            replace(whole, features=tuple(layer[:size] for layer in whole.features))
            for size in args.sizes
            if size <= len(whole)
        ]
        for batch in args.batch:
            measure(detector, pixels[:batch], banks, args.rounds)


def bank_of(detector: AnomalyDetector, images: list[Image.Image]) -> PromptBank:
    """A bank of images that is not slow to make: the first ones alone are compared with one another."""
    parts = [detector.encode(detector.pixel_values(image)).patch_embeds for image in tqdm(images, leave=False)]
    layers = tuple(torch.cat([unit_patch_tokens(each) for each in layer]) for layer in zip(*parts, strict=True))
    made_by = detector.model.fingerprint(), detector.preprocessing()
    few = PromptBank(tuple(layer[:8] for layer in layers), *made_by)
    return PromptBank(layers, *made_by, few.with_variation().variation)


def measure(detector: AnomalyDetector, pixels: torch.Tensor, banks: list[PromptBank], rounds: int):
    text_embeds = detector.encode_text()
    ready = [detector.prepare(PlainReference(prompt_bank=bank)).prompt_bank for bank in banks]
    jobs: dict[int, Callable[[], object]] = {
        0 if bank is None else len(banks[number - 1]): lambda bank=bank: detector.score(
            detector.encode(pixels), bank, text_embeds
        )
        for number, bank in enumerate([None, *ready])
    }
    seconds = in_turn(jobs, rounds, time.process_time)
    medians = {size: statistics.median(values) / len(pixels) for size, values in seconds.items()}
    features = detector.encode(pixels)
    for size, bank, prepared in zip(jobs, [None, *banks], [None, *ready], strict=True):
        tokens, lost = ("", " | ") if bank is None else (str(len(bank.pools()[0])), losses(features, bank, prepared))
        times = f"{1000 * medians[size]:.0f} | {medians[size] / medians[0]:.2f}"
        print(f"| {detector.model.dtype} | {len(pixels)} | {size} | {tokens} | {times} | {lost} |", flush=True)


def losses(features: ImageFeatures, bank: PromptBank, prepared: PromptBank) -> str:
    """How often a nearer token is there than the one that was found, and how much farther all are for it."""
    worse, farther, near = [], [], []
    for layer, pool, searched in zip(features.patch_embeds, bank.pools(), prepared.searched(), strict=True):
        query = unit_patch_tokens(layer)
        best = cosine_distance(query, nearest_tokens(query.float(), pool.float()))
        found = cosine_distance(query, nearest_tokens(query, searched))
        worse.append(found - best > 1e-5)
        farther.append(found - best)
        near.append(best)
    share, by = torch.stack(worse).float().mean(), torch.stack(farther).mean() / torch.stack(near).mean()
    return f"{share:.2%} | {by:.2%}"


if __name__ == "__main__":
    main()
