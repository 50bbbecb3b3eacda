"""What each adapter brings: the evaluation of a model with some of its adapters, and with random weights.

python benchmarks/adapters.py --data mvtec:/data/mvtec_ad --output results/adapters
"""

import argparse
from pathlib import Path

import torch
from transformers import AutoTokenizer
from transformers.utils import logging

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.evaluation.run import evaluate
from adaptclip_hf.pretrained import DEFAULT_NAME, resolve_model

ADAPTERS = ("textual_adapter", "visual_adapter", "prompt_query_adapter")
# name -> adapters, shots
ROWS = {
    "none": ((), 0),
    "textual": (ADAPTERS[:1], 0),
    "visual": (ADAPTERS[1:2], 0),
    "textual and visual": (ADAPTERS[:2], 0),
    "prompt-query": (ADAPTERS[2:], 4),
    "all": (ADAPTERS, 4),
}
METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pixel_ap": "pixel AP"}


def random_model(folder: Path | str) -> AdaptCLIPModel:
    """The same architecture before any training."""
    trained = AdaptCLIPModel.from_pretrained(folder)
    torch.manual_seed(0)
    model = AdaptCLIPModel(trained.config)
    model.set_object_name(model.config.object_name, AutoTokenizer.from_pretrained(folder))
    return model


def mean_over_categories(results: dict, shots: int) -> list[str]:
    cells = []
    for metric in METRICS:
        values = [
            line["mean"]
            for line in results["summary"]
            if (line["metric"], line["shots"]) == (metric, shots) and line["category"] != "mean"
        ]
        cells.append(f"{100 * sum(values) / len(values):.1f}" if values else "-")
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    logging.set_verbosity_error()  # a model without some adapter says that it leaves weights unused
    folder = resolve_model(args.model)
    processor = AdaptCLIPProcessor.from_pretrained(folder)
    print("| adapters | shots | " + " | ".join(METRICS.values()) + " |\n|---|---|" + "---|" * len(METRICS))
    models = {
        name: ({adapter: adapter in chosen for adapter in ADAPTERS}, shots) for name, (chosen, shots) in ROWS.items()
    }
    for name, (flags, shots) in models.items():
        model = AdaptCLIPModel.from_pretrained(folder, **flags)
        results = evaluate(model, processor, args.data, args.output / name.replace(" ", "_"), [shots])
        print(f"| {name} | {shots} | " + " | ".join(mean_over_categories(results, shots)) + " |", flush=True)
    results = evaluate(random_model(folder), processor, args.data, args.output / "random", [0, 4])
    for shots in (0, 4):
        print(f"| all, random weights | {shots} | " + " | ".join(mean_over_categories(results, shots)) + " |")


if __name__ == "__main__":
    main()
