"""What each adapter brings: the evaluation of a model with some of its adapters, and with random weights.

python benchmarks/adapters.py --data mvtec:/data/mvtec_ad --output results/adapters
"""

import argparse
from pathlib import Path

import torch
from transformers.utils import logging

from adaptclip_hf import AdaptCLIPModel, AnomalyDetector
from adaptclip_hf.engine.loading import load_model_and_processor
from adaptclip_hf.evaluation.evaluate import evaluate
from adaptclip_hf.model_files import DEFAULT_NAME

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


def random_detector(name: str) -> AnomalyDetector:
    """The same architecture before any training."""
    trained, processor = load_model_and_processor(name)
    torch.manual_seed(0)
    model = AdaptCLIPModel(trained.config)
    model.set_object_name(model.config.object_name, processor.tokenizer)
    return AnomalyDetector(model.eval(), processor)


def mean_over_categories(results: dict, shots: int) -> list[str]:
    cells = []
    for metric in METRICS:
        values = [
            line["mean"]
            for line in results["summary"]
            if (line["metric"], line["shots"]) == (metric, shots) and line["category"] is not None
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
    print("| adapters | shots | " + " | ".join(METRICS.values()) + " |\n|---|---|" + "---|" * len(METRICS))
    models = {
        name: ({adapter: adapter in chosen for adapter in ADAPTERS}, shots) for name, (chosen, shots) in ROWS.items()
    }
    for name, (flags, shots) in models.items():
        detector = AnomalyDetector.from_pretrained(args.model, **flags)
        results = evaluate(detector, args.data, args.output / name.replace(" ", "_"), [shots])
        print(f"| {name} | {shots} | " + " | ".join(mean_over_categories(results, shots)) + " |", flush=True)
    results = evaluate(random_detector(args.model), args.data, args.output / "random", [0, 4])
    for shots in (0, 4):
        print(f"| all, random weights | {shots} | " + " | ".join(mean_over_categories(results, shots)) + " |")


if __name__ == "__main__":
    main()
