"""A histogram of scores as boxes of a drawing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

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
        cls, groups: Mapping[str, Sequence[float]], good: Sequence[float] | None, threshold: float | None
    ) -> "Histogram":
        """The drawing of scores by label; each kind on a scale of its own highest bar."""
        good = good or []
        every = [score for scores in groups.values() for score in scores]
        highest = max([*good, *every, *(threshold,) * (threshold is not None)])
        end = max(1.05 * highest, 1e-6)
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
        places = np.linspace(0, end, 6)[:-1]
        ticks = [(WIDTH * place / end, f"{place:.2f}" if end > 0.1 else f"{place:.3f}") for place in places]
        x = None if threshold is None else WIDTH * threshold / end
        return cls(bars, outline, x, threshold, ticks, {name: len(each) for name, each in groups.items()}, len(good))

    def drawing(self) -> Markup:
        """As HTML: an SVG and its legend, in the colours of the page's CSS variables (`--ink`, `--good`, `--bad`,
        `--own`, `--accent`) and of its classes `bar-normal`, `bar-anomalous` and `bar-scored`."""
        return Markup(template("histogram.html").render(histogram=self))


def template(name: str):
    """A Jinja template of this folder."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(__package__).joinpath(name).read_text(encoding="utf-8"))
