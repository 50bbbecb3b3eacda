"""Figures as rows of Markdown tables."""

from collections.abc import Sequence

KINDS = {"image": "I", "pixel": "P", "sample": "S"}
FIGURES = {
    "auroc": "AUROC",
    "ap": "AP",
    "average_precision": "AvgPrec",
    "f1max": "F1max",
    "aupro": "AUPRO",
    "aupimo": "AUPIMO",
}


def table_head(first: str, metrics: Sequence[str]) -> list[str]:
    return [f"| {first} | " + " | ".join(map(title, metrics)) + " |", "|---" * (len(metrics) + 1) + "|"]


def table_row(first: str, metrics: Sequence[str], cells: dict[str, str]) -> str:
    return f"| {first} | " + " | ".join(cells.get(metric, "-") for metric in metrics) + " |"


def title(metric: str) -> str:
    """The usual short name, such as I-AUROC of `image_auroc`."""
    kind, _, name = metric.partition("_")
    return f"{KINDS[kind]}-{FIGURES.get(name, name.capitalize())}"


def cell(mean: float, std: float | None = None) -> str:
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def summary_cell(line: dict) -> str:
    """A line of a summary, whose figures are fractions, in per cent."""
    return cell(100 * line["mean"], line["std"] and 100 * line["std"])


def published_cell(line: dict) -> str:
    """What was published of a summary's line, behind its own figure."""
    if line.get("published") is None:
        return ""
    std = line["published_std"]
    return f" [{cell(100 * line['published'], None if std is None else 100 * std)}]{' (!)' if line['differs'] else ''}"
