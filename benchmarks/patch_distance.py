"""What features alone can tell: how far each patch is from the nearest one of the normal images, and nothing learned.

    python benchmarks/patch_distance.py --data mvtec:/data/mvtec_ad --model adaptclip-tiny
    python benchmarks/patch_distance.py --data mvtec:/data/mvtec_ad --teacher

The ceiling of a model's few-shot scores: an image's score is the mean of the largest 0.5 % of its patches' cosine
distances, the prompts are those that `adaptclip evaluate` draws. `--teacher` is the network that adaptclip-tiny learned
from (`examples/adaptclip_tiny/`), at 256 pixels; a model's patches are those of the last layer that it compares.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from tqdm import tqdm

from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector
from adaptclip_hf.evaluation.data_sets import load_data_sets
from adaptclip_hf.evaluation.metrics import PixelMetrics, score_figures
from adaptclip_hf.evaluation.protocol import EvaluatedCategory, settings_of
from adaptclip_hf.modeling.alignment import cosine_distance, nearest_tokens
from adaptclip_hf.processing.image_loading import load_image, load_mask

RECIPE = Path(__file__).resolve().parents[1] / "examples" / "adaptclip_tiny"
SHARE, TEACHER_SIDE, MAP_SIDE = 0.005, 256, 128
METRICS = ("image_auroc", "pixel_auroc", "pixel_ap")
# an image -> unit patch features (L, d)
Encode = Callable[[object], torch.Tensor]


def model_patches(name: str) -> Encode:
    detector = AnomalyDetector.from_pretrained(name)

    def encode(image) -> torch.Tensor:
        features = detector.encode(detector.processor(load_image(image))["pixel_values"])
        return F.normalize(features.patch_embeds[-1][0, 1:].float(), dim=-1)

    return encode


def teacher_patches() -> Encode:
    sys.path.insert(0, str(RECIPE))
    from distillation import weigh
    from teacher import Teacher

    teacher = Teacher()

    @torch.no_grad()
    def encode(image) -> torch.Tensor:
        resized = load_image(image).convert("RGB").resize((TEACHER_SIDE, TEACHER_SIDE), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() / 255
        return weigh(teacher(pixels)[0]).flatten(0, 2)

    return encode


def figures_of(category: EvaluatedCategory, encode: Encode, shots: int, seeds: list[int]) -> dict[str, float] | None:
    """The category's figures, means over the seeds; `None` without normal images or defects."""
    if category.views_without_normals():
        return None
    rows = category.rows
    queries = [(view, row) for view, found in category.queries.items() for row in found]
    encoded = {row: encode(rows[row]["image"]) for _, row in tqdm(queries, category.name, leave=False)}
    labels = np.array([rows[row]["label"] == 1 for _, row in queries])
    masks = [rows[row]["mask"] for _, row in queries]
    with_masks = all(mask is not None for mask, label in zip(masks, labels, strict=True) if label)
    by_seed = []
    for setting in settings_of([shots], seeds):
        pools = {
            view: torch.cat([encode(rows[row]["image"]) for row in category.prompts(view, setting)])
            for view in category.queries
        }
        scores, pixels = [], PixelMetrics()
        for (view, row), mask in zip(queries, masks, strict=True):
            query = encoded[row][None]
            distance = cosine_distance(query, nearest_tokens(query, pools[view])).clamp(0, 1)
            scores.append(distance.topk(max(1, round(SHARE * distance.shape[1]))).values.mean().item())
            if with_masks:
                side = round(distance.shape[1] ** 0.5)
                size = (MAP_SIDE, MAP_SIDE)
                shown = F.interpolate(distance.view(1, 1, side, side), size=size, mode="bilinear")[0]
                truth = np.zeros(size, bool)
                if mask is not None:
                    truth = np.asarray(Image.fromarray(load_mask(mask)).resize(size, Image.Resampling.NEAREST))
                pixels.update(shown, truth[None])
        by_seed.append(score_figures("image", np.array(scores), labels) | pixels.compute())
    return {name: np.mean([each[name] for each in by_seed]) for name in METRICS if name in by_seed[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--model", default=DEFAULT_MODEL)
    which.add_argument("--teacher", action="store_true")
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 20, 30])
    args = parser.parse_args()
    encode = teacher_patches() if args.teacher else model_patches(args.model)
    print("| category | " + " | ".join(METRICS) + " |\n|---|" + "---|" * len(METRICS))
    for category in (each for data_set in load_data_sets(args.data, [], print) for each in data_set.categories):
        figures = figures_of(category, encode, args.shots, args.seeds)
        if figures:
            cells = (f"{100 * figures[name]:.1f}" if name in figures else "-" for name in METRICS)
            print(f"| {category.name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
