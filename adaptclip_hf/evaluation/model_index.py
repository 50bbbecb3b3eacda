"""Results in the form of the Hub's model cards."""

import json
from pathlib import Path

import yaml
from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from ..files import write_whole

TASK = "anomaly-detection", "Anomaly detection"
# the metrics of published figures and of the usual tables
METRICS = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "image_f1max": "Image F1max",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "pixel_f1max": "Pixel F1max",
    "pixel_aupro": "Pixel AUPRO",
}


def eval_results(results: dict | str | Path) -> list[EvalResult]:
    """The means over the categories of every data set and number of shots, in per cent.

    Args:
        results: the content of a results.json, or its path.

    Returns:
        `list[EvalResult]`: for `ModelCardData(eval_results=...)`.
    """
    found: dict = results if isinstance(results, dict) else json.loads(Path(results).read_text(encoding="utf-8"))
    data_sets = {each["name"]: each for each in found["data_sets"]}
    return [
        EvalResult(
            task_type=TASK[0],
            task_name=TASK[1],
            dataset_type=line["data_set"],
            dataset_name=f"{data_sets[line['data_set']]['published_as'] or line['data_set']} ({line['shots']}-shot)",
            dataset_config=f"{line['shots']}-shot",
            dataset_split="test",
            metric_type=line["metric"],
            metric_name=METRICS[line["metric"]]
            + (f", mean of {line['categories']} categories" if line["categories"] > 1 else ""),
            metric_value=round(100 * line["mean"], 1),
        )
        for line in found["summary"]
        if line["data_set"] and line["category"] is None and line["metric"] in METRICS
    ]


def write_model_index(results: dict, file: Path):
    """The `model-index` entry of a model card's metadata, as YAML."""
    name = Path(results["model"]["name"] or "adaptclip").name
    index = eval_results_to_model_index(name, eval_results(results))
    text = yaml.safe_dump({"model-index": index}, sort_keys=False, allow_unicode=True)
    write_whole(file, text.encode(errors="replace"))
