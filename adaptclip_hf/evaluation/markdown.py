"""Figures as rows of Markdown tables."""

import re
from collections.abc import Iterable, Sequence

from ..reporting import printable

MARKUP = re.compile(r"[\\`*\[\]|<>&]")
ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
KINDS = {"image": "I", "pixel": "P", "sample": "S"}
FIGURES = {
    "auroc": "AUROC",
    "ap": "AP",
    "average_precision": "AvgPrec",
    "f1max": "F1max",
    "aupro": "AUPRO",
    "aupimo": "AUPIMO",
}


def plain(text: str) -> str:
    """A name or message that comes from data, so that no Markdown and no HTML is made of it, in one line."""
    return MARKUP.sub(lambda sign: ENTITIES.get(sign[0], f"\\{sign[0]}"), printable(text))


def head(cells: Sequence[str]) -> list[str]:
    return [row(cells), "|---" * len(cells) + "|"]


def row(cells: Iterable[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def table_head(first: str, metrics: Sequence[str]) -> list[str]:
    return head([first, *map(title, metrics)])


def table_row(first: str, metrics: Sequence[str], cells: dict[str, str]) -> str:
    return row([first, *(cells.get(metric, "-") for metric in metrics)])


def title(metric: str) -> str:
    """The usual short name, such as I-AUROC for `image_auroc`."""
    kind, _, name = metric.partition("_")
    return f"{KINDS[kind]}-{FIGURES.get(name, name.capitalize())}"


def cell(mean: float, std: float | None = None) -> str:
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def summary_cell(line: dict) -> str:
    """A line of a summary, whose figures are fractions, in per cent."""
    return cell(100 * line["mean"], percent(line["std"]))


def published_cell(line: dict) -> str:
    """The published figure of a summary's line, in per cent."""
    return cell(100 * line["published"], percent(line["published_std"]))
