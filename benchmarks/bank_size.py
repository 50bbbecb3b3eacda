"""What a smaller bank costs and saves: greedy coreset and random choice, and storage in fewer bytes.

    python benchmarks/bank_size.py --data mvtec:/data/mvtec_ad --sizes 4 16 64 256

Of all good photos of the train split a bank of each size is chosen by the greedy coreset (`PromptBank.reduce`) and at
random (mean of three draws). Beside image AUROC stand the milliseconds of a score with the bank, encoding left out, and
the seconds of the choice.
"""

import argparse
import time
from tempfile import TemporaryDirectory

import datasets
import numpy as np
from tqdm import tqdm

from adaptclip_hf import AnomalyDetector, PromptBank
from adaptclip_hf.data import load_data_set
from adaptclip_hf.evaluation.metrics import score_figures
from adaptclip_hf.model_files import DEFAULT_NAME
from adaptclip_hf.modeling.bank_content import STORAGES
from adaptclip_hf.processing.image_loading import load_image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--sizes", nargs="+", type=int, default=[4, 16, 64, 256])
    parser.add_argument("--queries", type=int, default=80, help="at most so many test images, drawn at random")
    args = parser.parse_args()
    detector = AnomalyDetector.from_pretrained(args.model)
    print("| category | bank | choice | image AUROC | ms a score | s to choose |\n|---|---|---|---|---|---|")
    for spec in args.data:
        rows = list(load_data_set(spec).cast_column("image", datasets.Image(decode=False)))
        for name in dict.fromkeys(row["category"] for row in rows):
            measure(detector, name, [row for row in rows if row["category"] == name], args.sizes, args.queries)


def measure(detector: AnomalyDetector, name: str, rows: list[dict], sizes: list[int], queries: int):
    rng = np.random.default_rng(0)
    normal = [row["image"] for row in rows if row["split"] == "train"]
    tests = [row for row in rows if row["split"] == "test"]
    tests = [tests[index] for index in rng.permutation(len(tests))[:queries]]
    whole = detector.remember(normal)
    features = [
        detector.encode(detector.pixel_values(load_image(row["image"]))) for row in tqdm(tests, name, leave=False)
    ]
    labels = np.array([row["label"] == 1 for row in tests])
    text_embeds = detector.encode_text()

    def figures(bank: PromptBank) -> tuple[float, float]:
        start = time.perf_counter()
        scores = [detector.score(each, bank, text_embeds)[0].item() for each in features]
        seconds = (time.perf_counter() - start) / len(features)
        return score_figures("image", np.array(scores), labels)["image_auroc"], 1000 * seconds

    def show(size: int, choice: str, auroc: float, ms: str = "", seconds: str = ""):
        print(f"| {name} | {size} | {choice} | {100 * auroc:.1f} | {ms} | {seconds} |", flush=True)

    for size in [*(size for size in sizes if size < len(whole)), len(whole)]:
        start = time.perf_counter()
        reduced = whole.reduce(size)
        choosing = time.perf_counter() - start
        auroc, ms = figures(reduced)
        show(size, "all" if size == len(whole) else "coreset", auroc, f"{ms:.0f}", f"{choosing:.1f}")
        if size < len(whole):
            draws = [figures(whole.select(rng.permutation(len(whole))[:size].tolist()))[0] for _ in range(3)]
            show(size, "random", float(np.mean(draws)))
    some = whole.select(range(min(16, len(whole))))
    for storage in STORAGES:
        with TemporaryDirectory() as folder:
            bank = PromptBank.from_pretrained(some.save_pretrained(folder, storage=storage))
        show(len(bank), f"first, stored as {storage}", figures(bank)[0])


if __name__ == "__main__":
    main()
