"""How well a model finds anomalies in MVTec-layout data: image and pixel AUROC, pixel AUPR, zero-shot and few-shot.

    python benchmarks/real_images.py DATA/bottle DATA/leather --shots 0 4 --seeds 10 20 30 --ablation --random

Prompts are drawn as in the paper's protocol: torch.manual_seed(seed), torch.randint over the sorted normal training
images. Figures are per cent, mean over the seeds. Pixel figures come from a histogram of 65,536 bins.
"""

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoProcessor, AutoTokenizer
from transformers.utils import logging

from adaptclip_hf import AdaptCLIPModel
from adaptclip_hf.pretrained import DEFAULT_NAME, resolve_model

BINS = 2**16
METRICS = ("image AUROC", "pixel AUROC", "pixel AUPR")
ADAPTERS = ("textual_adapter", "visual_adapter", "prompt_query_adapter")
ZERO_SHOT_ROWS = {"none": (), "textual": ADAPTERS[:1], "visual": ADAPTERS[1:2], "textual + visual": ADAPTERS[:2]}
FEW_SHOT_ROWS = {"prompt-query": ADAPTERS[2:]}


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
def measure(models: dict[str, AdaptCLIPModel], processor, category: Path, shots: list[int], seeds: list[int]) -> dict:
    """{(model, shots, metric): mean over seeds} of one category, for models that share the first one's encoder."""
    encoder = next(iter(models.values()))
    files = sorted((category / "test").glob("*/*"))
    labels = np.array([file.parent.name != "good" for file in files])
    train = sorted((category / "train" / "good").glob("*"))
    runs = [
        (name, k, seed)
        for k in shots
        for seed in (seeds if k else seeds[:1])
        for name in models
        if (train or not k) and name not in (ZERO_SHOT_ROWS if k else FEW_SHOT_ROWS)
    ]
    banks = {(k, seed): draw_bank(encoder, processor, train, k, seed) for _, k, seed in runs if k}
    scores = {run: [] for run in runs}
    counts = {run: np.zeros((2, BINS), np.int64) for run in runs}
    for file, label in zip(tqdm(files, desc=category.name, leave=False), labels, strict=True):
        truth = category / "ground_truth" / file.parent.name / f"{file.stem}_mask.png"
        features = encoder.image_features(processor(file)["pixel_values"])
        has_mask = truth.exists() or not label
        mask = processor.image_processor(file, masks=truth)["mask_labels"][0].numpy() > 0 if truth.exists() else None
        for name, k, seed in runs:
            output = models[name](image_features=features, prompt_bank=banks.get((k, seed)))
            scores[name, k, seed].append(output.anomaly_scores.item())
            bins = (output.anomaly_maps[0].numpy() * (BINS - 1)).astype(np.int64)
            inside = np.zeros_like(bins, bool) if mask is None else mask
            if has_mask:
                counts[name, k, seed][0] += np.bincount(bins[~inside], minlength=BINS)
                counts[name, k, seed][1] += np.bincount(bins[inside], minlength=BINS)
    figures = defaultdict(list)
    for run in runs:
        if 0 < labels.sum() < len(labels):
            figures[*run[:2], "image AUROC"].append(image_auroc(np.array(scores[run]), labels))
        if counts[run][1].any():
            auroc, aupr = ranking_figures(*counts[run])
            figures[*run[:2], "pixel AUROC"].append(auroc)
            figures[*run[:2], "pixel AUPR"].append(aupr)
    return {name: 100 * float(np.mean(values)) for name, values in figures.items()}


def draw_bank(model: AdaptCLIPModel, processor, train: list[Path], k: int, seed: int):
    torch.manual_seed(seed)
    drawn = [train[index] for index in torch.randint(0, len(train), (k,))]
    return model.encode_prompts(processor(drawn)["pixel_values"])


def random_model(model: AdaptCLIPModel, tokenizer) -> AdaptCLIPModel:
    """The same architecture before any training."""
    torch.manual_seed(0)
    untrained = AdaptCLIPModel(model.config).eval()
    untrained.set_object_name(model.config.object_name, tokenizer)
    return untrained


def print_tables(rows: dict[str, dict], names: list[str], shots: list[int]):
    """The first model, a category a line; then the mean of every model."""
    columns = [(k, metric) for k in shots for metric in METRICS]
    heading = (
        "| " + " | ".join(f"{k}-shot {metric}" for k, metric in columns) + " |\n" + "|---" * (len(columns) + 1) + "|"
    )

    def line(title: str, figures: dict, name: str) -> str:
        cells = [figures.get((name, *column)) for column in columns]
        return f"| {title} | " + " | ".join("-" if cell is None else f"{cell:.1f}" for cell in cells) + " |"

    print("\n| category", heading)
    for category, figures in rows.items():
        print(line(category, figures, names[0]))
    keys = dict.fromkeys(key for figures in rows.values() for key in figures)
    means = {key: np.mean([figures[key] for figures in rows.values() if key in figures]) for key in keys}
    print("\n| mean with", heading)
    for name in names:
        print(line(name, means, name))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("categories", nargs="+", type=Path, metavar="CATEGORY", help="folders with train, test, ...")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 20, 30])
    parser.add_argument("--image-size", type=int, help="another input side than the model's own")
    parser.add_argument("--ablation", action="store_true", help="also with some of the adapters switched off")
    parser.add_argument("--random", action="store_true", help="also the same model with random weights")
    args = parser.parse_args()
    logging.set_verbosity_error()  # a model without some adapter says that it leaves weights unused
    folder = resolve_model(args.model)
    processor = AutoProcessor.from_pretrained(folder)
    settings = {} if args.image_size is None else {"image_size": args.image_size}
    model = AdaptCLIPModel.from_pretrained(folder, **settings)
    processor.image_processor.size = {"height": model.config.image_size, "width": model.config.image_size}
    models = {"all": model}
    if args.ablation:
        for name, adapters in (ZERO_SHOT_ROWS | FEW_SHOT_ROWS).items():
            flags = {adapter: adapter in adapters for adapter in ADAPTERS}
            models[name] = AdaptCLIPModel.from_pretrained(folder, **settings, **flags)
    groups = [models]
    if args.random:
        groups.append({"random": random_model(model, AutoTokenizer.from_pretrained(folder))})
    start, rows = time.time(), {}
    for category in args.categories:
        rows[category.name] = {}
        for group in groups:
            rows[category.name] |= measure(group, processor, category, args.shots, args.seeds)
        print(category.name, {name: round(value, 1) for name, value in rows[category.name].items()}, flush=True)
    print_tables(rows, [name for group in groups for name in group], args.shots)
    print(f"\n{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
