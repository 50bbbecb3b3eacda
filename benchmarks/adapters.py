"""What each adapter brings: the evaluation of a model with some of its adapters, with none, and on a random CLIP.

    python benchmarks/adapters.py --data mvtec:/data/mvtec_ad --output results/adapters
    adaptclip compare results/adapters/none results/adapters/all

With none it is CLIP's static prompts that score and, beside normal images, alignment alone; on a CLIP of random weights
the same shows what luck and edges give.
"""

import argparse
from pathlib import Path

import torch
from transformers.utils import logging

from adaptclip_hf import AdaptCLIPModel, AnomalyDetector
from adaptclip_hf.evaluation.evaluate import evaluate
from adaptclip_hf.loading import load_model_and_processor
from adaptclip_hf.model_files import DEFAULT_NAME

ADAPTERS = ("textual_adapter", "visual_adapter", "prompt_query_adapter")
ROWS = {
    "none": (),
    "textual": ADAPTERS[:1],
    "visual": ADAPTERS[1:2],
    "textual and visual": ADAPTERS[:2],
    "prompt-query": ADAPTERS[2:],
    "all": ADAPTERS,
}
SHOTS = (0, 4)
METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "pixel_ap": "pixel AUPR"}


def random_detector(name: str, **adapters: bool) -> AnomalyDetector:
    """The same architecture before any training, CLIP's included."""
    trained, processor = load_model_and_processor(name, **adapters)
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
    titles = [f"{shots}-shot {title}" for shots in SHOTS for title in METRICS.values()]
    print("| adapters | " + " | ".join(titles) + " |\n|---|" + "---|" * len(titles))
    flags = {name: {adapter: adapter in chosen for adapter in ADAPTERS} for name, chosen in ROWS.items()}
    made = {name: lambda each=each: AnomalyDetector.from_pretrained(args.model, **each) for name, each in flags.items()}
    made |= {
        f"{name}, random CLIP": lambda name=name: random_detector(args.model, **flags[name]) for name in ("none", "all")
    }
    for name, make in made.items():
        output = args.output / name.replace(",", "").replace(" ", "_")
        results = evaluate(make(), args.data, output, SHOTS, model_name=f"{args.model}, adapters: {name}")
        cells = [cell for shots in SHOTS for cell in mean_over_categories(results, shots)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
