"""A histogram of scores as an SVG drawing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from .assets import template

BINS = 40
WIDTH, HEIGHT = 720, 200  # of the drawing


@dataclass(frozen=True)
class HistogramDrawing:
    """Scores of images, stacked by label, with a line for the scores of a profile's good photos, and the threshold.

    Attributes:
        bars: (label, x, y, width, height) of each bar.
        outline: points of the good photos' line; empty without a profile.
        threshold: the threshold's x, or `None`.
        value: the threshold's value.
        end: the score at the right end.
        tallest: the highest bar's number of images.
        ticks: (x, text) of each tick.
        counts: {label: number of images}.
        good: number of good photos.
    """

    bars: list[tuple[str, float, float, float, float]]
    outline: str
    threshold: float | None
    value: float | None
    end: float
    tallest: int
    ticks: list[tuple[float, str]]
    counts: dict[str, int]
    good: int

    @classmethod
    def of(
        cls, groups: Mapping[str, Sequence[float]], good: Sequence[float] | None, threshold: float | None
    ) -> "HistogramDrawing":
        """Draws scores by label; the bars and the good photos' line are each scaled to their own highest value."""
        good = [] if good is None else good
        drawn = [*good, *(score for scores in groups.values() for score in scores)]
        if threshold is not None:
            drawn.append(threshold)
        end = max(1.05 * max(drawn), 1e-6)
        edges = np.linspace(0, end, BINS + 1)
        counts = {name: np.histogram(scores, edges)[0] for name, scores in groups.items()}
        tallest = max(1, int(sum(counts.values(), np.zeros(BINS, int)).max()))
        bars, bottoms, step = [], np.zeros(BINS), WIDTH / BINS
        for name, each in counts.items():
            for index in np.flatnonzero(each):
                height = float(HEIGHT * each[index] / tallest)
                bottoms[index] += height
                bars.append((name, float(index * step), float(HEIGHT - bottoms[index]), step - 1, height))
        outline = ""
        if good:
            heights = np.histogram(good, edges)[0]
            heights = HEIGHT * heights / max(1, heights.max())
            corners = [(x, HEIGHT - height) for index, height in enumerate(heights) for x in (index, index + 1)]
            outline = " ".join(f"{x * step:.1f},{y:.1f}" for (x, y) in corners)
        values = np.linspace(0, end, 6)[:-1]
        ticks = [(WIDTH * value / end, f"{value:.2f}" if end > 0.1 else f"{value:.3f}") for value in values]
        x = None if threshold is None else WIDTH * threshold / end
        sizes = {name: len(each) for name, each in groups.items()}
        return cls(bars, outline, x, threshold, end, tallest, ticks, sizes, len(good))

    @property
    def count_ticks(self) -> list[tuple[float, str]]:
        """(y, text) of the ticks at the side: the highest bar's number of images, and half of it."""
        return [
            (HEIGHT * (1 - count / self.tallest), str(count)) for count in {self.tallest, self.tallest // 2} if count
        ]

    def html(self) -> Markup:
        """An SVG and its legend as HTML; colours are the page's CSS variables (`--ink`, `--good`, `--bad`, `--own`,
        `--accent`) and classes (`bar-normal`, `bar-anomalous`, `bar-not-inspectable`, `bar-scored`)."""
        return Markup(template("histogram.html").render(histogram=self))
