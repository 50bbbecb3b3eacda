"""The record of a category: its figures in every setting, its prompts and scores, and why something is missing."""

import numpy as np

from .category_counts import CategoryCounts
from .metrics import ImageMetrics
from .protocol import EvaluatedCategory, Setting
from .scoring import CategoryScorer


def make_record(scorer: CategoryScorer, counts: CategoryCounts) -> dict:
    """Everything that is kept of a finished category, as JSON values."""
    category, names = scorer.category, {"data_set": scorer.category.data_set, "category": scorer.category.name}
    rows = sorted(counts.scores)
    examples = category.rows.select_columns(["label", "defect", "sample_id", "view"])[rows] if rows else {}
    labels = np.array(examples.get("label", []), int)
    samples = examples.get("sample_id", [])
    has_samples = bool(rows) and None not in samples
    results = []
    for index, setting in enumerate(counts.settings):
        images, pixels = ImageMetrics(), counts.pixels[setting]
        images.update([counts.scores[row][index] for row in rows], labels, samples if has_samples else None)
        figures = {"metrics": images.compute() | pixels.compute(), "error_bounds": pixels.error_bounds()}
        results.append({**names, **setting._asdict(), **figures})
    return {
        **names,
        "settings": [list(setting) for setting in scorer.asked],
        "images": {"normal": int((labels == 0).sum()), "anomalous": int((labels == 1).sum())},
        "results": results,
        "prompts": [
            {**names, "view": view, **setting._asdict(), "images": [category.name_of(row) for row in drawn]}
            for setting in counts.settings
            for view, drawn in scorer.prompts(setting).items()
        ],
        "notes": scorer.notes + missing(category, counts, labels),
        "failures": [
            {**names, "image": category.name_of(row), "error": line} for row, line in sorted(counts.failures.items())
        ],
        "scores": [
            {
                "image": category.name_of(row),
                "label": int(labels[index]),
                "defect": examples["defect"][index],
                "view": examples["view"][index],
                "sample_id": samples[index],
                "scores": [float(score) for score in counts.scores[row]],
            }
            for index, row in enumerate(rows)
        ],
    }


def merge_records(before: dict, now: dict) -> dict:
    """One record of the settings that two runs finished of a category."""
    results = sorted(before["results"] + now["results"], key=lambda each: each["shots"])
    images: dict[str, dict] = {}
    for record in (before, now):
        runs = [(each["shots"], each["seed"]) for each in record["results"]]
        for image in record["scores"]:
            kept = images.setdefault(image["image"], {**image, "scores": {}})
            kept["scores"] |= dict(zip(runs, image["scores"], strict=True))
    order = [(each["shots"], each["seed"]) for each in results]
    return {
        **now,
        "settings": before["settings"] + now["settings"],
        "results": results,
        "prompts": before["prompts"] + now["prompts"],
        "notes": list(dict.fromkeys(before["notes"] + now["notes"])),
        "scores": [{**each, "scores": [each["scores"].get(run) for run in order]} for each in images.values()],
        "time": {name: seconds + now["time"][name] for name, seconds in before["time"].items()},
    }


def missing(category: EvaluatedCategory, counts: CategoryCounts, labels: np.ndarray) -> list[str]:
    """Why some figures are missing."""
    notes = []
    if len(labels) and not (labels == 0).any():
        notes.append("no normal test image: image figures are left out")
    if len(labels) and not (labels == 1).any():
        notes.append("no anomalous test image: image and pixel figures are left out")
    masks = category.rows.with_format("arrow")["mask"].to_pylist()
    anomalous = [row for row in counts.scores if category.rows[row]["label"]]
    without = sum(masks[row] is None for row in anomalous)
    if anomalous and without == len(anomalous):
        notes.append("no masks: pixel figures are left out")
    elif without:
        notes.append(f"{without} of {len(anomalous)} anomalous images have no mask: pixel figures are of the others")
    if counts.failures:
        notes.append(f"{len(counts.failures)} images could not be read and are left out")
    return notes


def shown_setting(settings: list[Setting]) -> Setting:
    """The setting whose maps are shown: the most shots, the first seed."""
    return max(settings, key=lambda setting: (setting.shots, -settings.index(setting)))
