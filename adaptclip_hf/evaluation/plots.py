"""Curves and histograms of a category, if matplotlib is installed."""

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..engine.heatmap import DRAWN
from ..files import whole_file
from ..reporting import printable
from .ranking import Ranking

if TYPE_CHECKING:
    from .category_counts import CategoryCounts

MOST_POINTS = 2000
LONGEST_TITLE = 60
COLOURS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")


def can_plot() -> bool:
    return find_spec("matplotlib") is not None


def drawable(text: str) -> str:
    """A name as matplotlib draws it: no formula is made of it."""
    return printable(text).replace("$", r"\$")


def draw_curves(record: dict, counts: "CategoryCounts", file: Path) -> bool:
    """Draws ROC and precision-recall curves of images and pixels, and histograms of the scores.

    Each number of shots is drawn with its first seed.

    Returns `False` and writes no file without matplotlib or without an image.
    """
    if not can_plot() or not record["scores"]:
        return False
    from matplotlib.figure import Figure

    labels = np.array([image["label"] for image in record["scores"]], bool)
    first = {setting.shots: index for index, setting in reversed(list(enumerate(counts.settings)))}
    first = dict(sorted(first.items()))
    figure = Figure(figsize=(3.4 * max(4, len(first)), 6.8), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False)[:, 0]
    curves, histograms = upper.subplots(1, 4), lower.subplots(1, len(first), squeeze=False)[0]
    for (shots, index), colour in zip(first.items(), COLOURS * len(first), strict=False):
        scores = np.array([image["scores"][index] for image in record["scores"]], np.float32)
        ranking = Ranking.of_scores(scores, labels)
        draw_ranking(curves[:2], ranking, "images", shots, colour)
        draw_ranking(curves[2:], counts.pixels[counts.settings[index]].ranking(), "pixels", shots, colour)
    for axes, (shots, index) in zip(histograms, first.items(), strict=True):
        scores = np.array([image["scores"][index] for image in record["scores"]])
        draw_scores(axes, scores, labels, shots)
    figure.suptitle(drawable(f"{record['data_set']} / {record['category']}"[:LONGEST_TITLE]))
    with warnings.catch_warnings(), whole_file(file) as opened:
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(opened, format="png", dpi=100, metadata={"Software": DRAWN})
    return True


def draw_ranking(axes, ranking: Ranking | None, of: str, shots: int, colour: str):
    """ROC on the first axes, precision over recall on the second."""
    axes[0].set(title=f"ROC, {of}", xlabel="false-positive rate", ylabel="recall", xlim=(0, 1), ylim=(0, 1.01))
    axes[1].set(title=f"precision-recall, {of}", xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    if ranking is None:
        for each in axes:
            each.text(0.5, 0.5, "only one kind of label", ha="center", va="center", color="grey")
        return
    figures = ranking.figures()
    curves = (np.r_[0, ranking.fall_out], np.r_[0, ranking.recall]), ranking.precision_recall()
    for each, (x, y), name in zip(axes, curves, ("auroc", "ap"), strict=True):
        kept = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).astype(int))
        each.plot(x[kept], y[kept], color=colour, lw=1.5, label=f"{shots}-shot {100 * figures[name]:.1f}")
        each.legend(loc="lower right" if name == "auroc" else "best", fontsize=8)


def draw_scores(axes, scores: np.ndarray, labels: np.ndarray, shots: int):
    """Histograms of the scores of normal and anomalous images over [0, 1]."""
    bins = np.linspace(0, 1, 41)
    for chosen, name, colour in ((~labels, "normal", COLOURS[2]), (labels, "anomalous", COLOURS[3])):
        axes.hist(scores[chosen], bins, color=colour, alpha=0.6, label=f"{name} ({chosen.sum()})")
    axes.set(title=f"scores, {shots}-shot", xlabel="anomaly score", ylabel="images", xlim=(0, 1))
    axes.legend(fontsize=8)
