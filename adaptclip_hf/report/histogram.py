"""A histogram of scores as boxes of a drawing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 40
WIDTH, HEIGHT = 720, 200  # of the drawing


@dataclass(frozen=True)
class Histogram:
    """Scores of images, stacked by label, with those of a profile's good photos as a line and the threshold.

    Attributes:
        bars: (label, x, y, width, height) each.
        outline: of the good photos' scores, as the points of a polyline; empty without a profile.
        threshold: its x, or `None`.
        value: the threshold's value.
        ticks: (x, text).
        counts: {label: how many}.
        good: how many good photos.
    """

    bars: list[tuple[str, float, float, float, float]]
    outline: str
    threshold: float | None
    value: float | None
    ticks: list[tuple[float, str]]
    counts: dict[str, int]
    good: int

    @classmethod
    def of(
        cls, groups: dict[str, Sequence[float]], good: Sequence[float] | None, threshold: float | None
    ) -> "Histogram":
        """The drawing of scores by label; each kind on a scale of its own highest bar."""
        good = good or []
        highest = max([*good, *(threshold,) * (threshold is not None), *(max(each) for each in groups.values())])
        end = max(1.05 * highest, 1e-6)
        edges = np.linspace(0, end, BINS + 1)
        counts = {name: np.histogram(scores, edges)[0] for name, scores in groups.items()}
        tallest = max(1, int(sum(counts.values()).max()))
        bars, bottoms, step = [], np.zeros(BINS), WIDTH / BINS
        for name, each in counts.items():
            for index in np.flatnonzero(each):
                height = HEIGHT * each[index] / tallest
                bottoms[index] += height
                bars.append((name, index * step, HEIGHT - bottoms[index], step - 1, height))
        outline = ""
        if good:
            heights = np.histogram(good, edges)[0]
            heights = HEIGHT * heights / max(1, heights.max())
            corners = [(x, HEIGHT - height) for index, height in enumerate(heights) for x in (index, index + 1)]
            outline = " ".join(f"{x * step:.1f},{y:.1f}" for (x, y) in corners)
        places = np.linspace(0, end, 6)[:-1]
        ticks = [(WIDTH * place / end, f"{place:.2f}" if end > 0.1 else f"{place:.3f}") for place in places]
        x = None if threshold is None else WIDTH * threshold / end
        return cls(bars, outline, x, threshold, ticks, {name: len(each) for name, each in groups.items()}, len(good))
