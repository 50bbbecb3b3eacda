"""The result of one image."""

import math
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import ClassVar, TypeAlias

import numpy as np
from PIL import Image

from ..processing.map_sizes import resize_map
from .colour_scale import FIXED, ColourScale
from .heatmap import render_heatmap
from .images import UnreadableImage
from .tiles import Box

# pixels: a larger photo is drawn in fewer, and regions are looked for in a map of fewer, which takes several times as
# much memory and time: both are bounded whatever the photo
LARGEST_AS_IT_IS, LARGEST_DRAWN, LARGEST_SEARCHED = 64_000_000, 32_000_000, 24_000_000


@dataclass(frozen=True, eq=False)
class DetectionResult:
    """The score and the map of one image.

    Attributes:
        name: path or URL of the image, or what kind of thing it was.
        score: in [0, 1], higher is more anomalous.
        model_map: (h, w) float32 in [0, 1] of what was looked at, as fine as the model sees it.
        size: (height, width) of the image.
        label: "normal", "anomalous", "not inspectable" (which is neither), or `None` without a threshold or profile.
        reason: with a profile: by which rule it is anomalous ("score", "area", "zone NAME"), or why it is not
            inspectable.
        margin: the score over the threshold, with one: above 1 the score is anomalous, and far above it clearly so.
        p_value: in (0, 1], with a profile: how often a good image scores this high or higher.
        regions: with a profile; empty for a normal image, else where the map lies above what those of good images
            reach, the highest first. Each a dict of `box` [x, y, width, height], `polygon` [[x, y], ...], `area`
            (pixels), `share` (of the image), `peak`, `mean` (of the map) and `significant`, in the image's own pixels,
            and `area_mm2` where the profile knows the scale. An anomalous image whose map is nowhere so high has one
            region that is not significant: its highest place. Where regions of some area decide, these alone.
        region: the part that was looked at, (left, top, width, height); `None` for all of it.
        ignore: (H, W), true where nothing was looked at.
        nearest: with a profile, for an image that is looked at whole, the name of the good photo that is most like it.
        among_normals: the image is itself one of the normal images that it was compared with: its score means nothing.
        appearance: how it looks as a whole (see [`appearance_of`]), where its reference asks for that.
        colours: which colour a value of the map has in the heatmap: with a profile they begin at what the maps of good
            photos reach, otherwise they are one fixed scale.
        image: the RGB image; [`~AnomalyDetector.detect`] leaves it out, [`~AnomalyDetector.stream`] does not.
    """

    name: str
    score: float
    model_map: np.ndarray = field(repr=False)
    size: tuple[int, int]
    label: str | None = None
    reason: str | None = None
    p_value: float | None = None
    margin: float | None = None
    regions: list[dict] | None = None
    region: Box | None = None
    ignore: np.ndarray | None = field(default=None, repr=False)
    nearest: str | None = None
    among_normals: bool = False
    appearance: np.ndarray | None = field(default=None, repr=False)
    colours: ColourScale = field(default=FIXED, repr=False)
    image: Image.Image | None = field(default=None, repr=False)

    error: ClassVar[None] = None  # an image that could not be read has one, see [`UnreadableImage`]

    def __eq__(self, other) -> bool:
        """Whether all fields are equal, arrays value by value."""
        if not isinstance(other, DetectionResult):
            return NotImplemented
        return all(equal(getattr(self, each.name), getattr(other, each.name)) for each in fields(self))

    def __hash__(self) -> int:
        return hash((self.name, self.score, self.size))

    @cached_property
    def anomaly_map(self) -> np.ndarray:
        """(H, W) float32 in [0, 1], at the image's own size; 0 where nothing was looked at."""
        return self._map_of(self.size)

    @property
    def drawn_map(self) -> np.ndarray:
        """The anomaly map at the image's own size, or of 32 million pixels where the image has more than 64."""
        return self.anomaly_map if self.drawn_size == self.size else self._map_of(self.drawn_size)

    @property
    def drawn_size(self) -> tuple[int, int]:
        height, width = self.size
        return self.size if height * width <= LARGEST_AS_IT_IS else self._size_within(LARGEST_DRAWN)

    def map_within(self, pixels: int) -> np.ndarray:
        """The anomaly map at the image's own size, or at a smaller one where the image has more pixels than that."""
        size = self._size_within(pixels)
        return self.anomaly_map if size == self.size else self._map_of(size)

    def map_searched(self, most: int = LARGEST_SEARCHED) -> np.ndarray:
        """The anomaly map as fine as the model sees it, at the image's own size at most: regions are looked for there.

        Args:
            most: pixels.
        """
        height, width = self.size
        seen = height * width if self.region is None else self.region[2] * self.region[3]
        return self.map_within(min(most, math.ceil(self.model_map.size * height * width / seen)))

    def _size_within(self, pixels: int) -> tuple[int, int]:
        height, width = self.size
        shrink = math.sqrt(pixels / (height * width))
        return self.size if shrink >= 1 else (max(1, int(height * shrink)), max(1, int(width * shrink)))

    def _map_of(self, size: tuple[int, int]) -> np.ndarray:
        """The map at a (height, width)."""
        down, right = size[0] / self.size[0], size[1] / self.size[1]
        left, top, width, height = self.region or (0, 0, self.size[1], self.size[0])
        rows = slice(round(top * down), max(round((top + height) * down), round(top * down) + 1))
        columns = slice(round(left * right), max(round((left + width) * right), round(left * right) + 1))
        anomaly_map = resize_map(self.model_map, (rows.stop - rows.start, columns.stop - columns.start))
        if self.region is not None:
            whole = np.zeros(size, np.float32)
            whole[rows, columns] = anomaly_map
            anomaly_map = whole
        if self.ignore is None:
            return anomaly_map
        ignore = self.ignore if size == self.size else np.asarray(Image.fromarray(self.ignore).resize(size[::-1], 0))
        return np.where(ignore, np.float32(0), anomaly_map)

    @cached_property
    def peak(self) -> float:
        """The highest value of the map, where it was looked at."""
        return float((self.model_map if self.ignore is None else self.anomaly_map).max())

    def heatmap(self, image: Image.Image | None = None) -> Image.Image:
        """The map over its image, in the colours of its scale ([`ColourScale`]).

        At the image's size, or in 32 million pixels where the image has more than 64.

        Args:
            image: RGB, of the result's size; the result's own by default.

        Raises:
            ValueError: there is no image, or one of another size.
        """
        image = self.image if image is None else image
        if image is None:
            raise ValueError(f"{self.name}: give the image that the map is drawn over.")
        if image.size == self.size[::-1] != self.drawn_size[::-1]:
            image = image.resize(self.drawn_size[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
        return render_heatmap(image, self.drawn_map, self.colours)


Result: TypeAlias = DetectionResult | UnreadableImage


def equal(one, other) -> bool:
    either_array = isinstance(one, np.ndarray) or isinstance(other, np.ndarray)
    return np.array_equal(one, other) if either_array else one == other
