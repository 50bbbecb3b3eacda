"""How well a model finds anomalies in MVTec-layout data: image and pixel AUROC, pixel AUPR, zero-shot and few-shot.

    python benchmarks/real_images.py DATA/bottle DATA/leather --shots 0 4 --seeds 10 20 30

Prompts are drawn as in the paper's protocol: torch.manual_seed(seed), torch.randint over the sorted normal training
images. Figures are per cent, mean over the seeds. Pixel figures come from a histogram of 65,536 bins.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoProcessor

from adaptclip_hf import AdaptCLIPModel
from adaptclip_hf.pretrained import DEFAULT_NAME, resolve_model

BINS = 2**16


def ranking_figures(negative: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """AUROC and AUPR (trapezoid) of counts over increasing score bins."""
    true = np.cumsum(positive[::-1]).astype(float)
    false = np.cumsum(negative[::-1]).astype(float)
    recall = np.concatenate([[0], true / true[-1]])
    fall_out = np.concatenate([[0], false / false[-1]])
    keep = true + false > 0
    precision = true[keep] / (true + false)[keep]
    return np.trapezoid(recall, fall_out), np.trapezoid(np.r_[1, precision], np.r_[0, recall[1:][keep]])


def image_auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of pairs in which the anomalous image scores higher, ties counting half."""
    difference = scores[labels][:, None] - scores[~labels][None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


@torch.inference_mode()
def measure(model: AdaptCLIPModel, processor, category: Path, shots: list[int], seeds: list[int]) -> dict:
    """{(shots, metric): mean over seeds} of one category."""
    files = sorted((category / "test").glob("*/*"))
    labels = np.array([file.parent.name != "good" for file in files])
    train = sorted((category / "train" / "good").glob("*"))
    runs = [(k, seed) for k in shots for seed in (seeds if k else seeds[:1]) if train or not k]
    banks = {}
    for k, seed in runs:
        if k:
            torch.manual_seed(seed)
            drawn = [train[index] for index in torch.randint(0, len(train), (k,))]
            banks[k, seed] = model.encode_prompts(processor(drawn)["pixel_values"])
    scores = {run: [] for run in runs}
    counts = {run: np.zeros((2, BINS), np.int64) for run in runs}
    for file, label in zip(tqdm(files, desc=category.name, leave=False), labels, strict=True):
        truth = category / "ground_truth" / file.parent.name / f"{file.stem}_mask.png"
        features = model.image_features(processor(file)["pixel_values"])
        has_mask = truth.exists() or not label
        mask = processor.image_processor(file, masks=truth)["mask_labels"][0].numpy() > 0 if truth.exists() else None
        for run in runs:
            output = model(image_features=features, prompt_bank=banks.get(run))
            scores[run].append(output.anomaly_scores.item())
            bins = (output.anomaly_maps[0].numpy() * (BINS - 1)).astype(np.int64)
            inside = np.zeros_like(bins, bool) if mask is None else mask
            if has_mask:
                counts[run][0] += np.bincount(bins[~inside], minlength=BINS)
                counts[run][1] += np.bincount(bins[inside], minlength=BINS)
    figures: dict = {}
    for run in runs:
        if 0 < labels.sum() < len(labels):
            figures.setdefault((run[0], "image AUROC"), []).append(image_auroc(np.array(scores[run]), labels))
        if counts[run][1].any():
            auroc, aupr = ranking_figures(*counts[run])
            figures.setdefault((run[0], "pixel AUROC"), []).append(auroc)
            figures.setdefault((run[0], "pixel AUPR"), []).append(aupr)
    return {name: 100 * float(np.mean(values)) for name, values in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="+", type=Path, metavar="CATEGORY", help="folders with train, test, ...")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 20, 30])
    parser.add_argument("--image-size", type=int, help="another input side than the model's own")
    args = parser.parse_args()
    folder = resolve_model(args.model)
    processor = AutoProcessor.from_pretrained(folder)
    settings = {} if args.image_size is None else {"image_size": args.image_size}
    model = AdaptCLIPModel.from_pretrained(folder, **settings)
    processor.image_processor.size = {"height": model.config.image_size, "width": model.config.image_size}
    start, rows = time.time(), {}
    for category in args.categories:
        rows[category.name] = measure(model, processor, category, args.shots, args.seeds)
        print(category.name, {name: round(value, 1) for name, value in rows[category.name].items()}, flush=True)
    columns = [(k, metric) for k in args.shots for metric in ("image AUROC", "pixel AUROC", "pixel AUPR")]
    print("\n| category | " + " | ".join(f"{k}-shot {metric}" for k, metric in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    means = {column: [row[column] for row in rows.values() if column in row] for column in columns}
    for name, row in (*rows.items(), ("mean", {column: np.mean(values) for column, values in means.items() if values})):
        print(f"| {name} | " + " | ".join(f"{row[column]:.1f}" if column in row else "-" for column in columns) + " |")
    print(f"\n{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
