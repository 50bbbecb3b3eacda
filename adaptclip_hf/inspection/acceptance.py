"""Acceptance as customers write it: how large a region a part may not have, in zones with limits of their own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ..engine import DetectionResult
from ..engine.tiles import Box, is_whole
from .calibration import is_number
from .regions import find_regions

AREA, ZONE = "area", "zone"  # reasons: anywhere, and in a zone, whose name follows
STEPS = 16  # of a search that halves: to 1 / 65536 of what is possible
LEAST_USUAL = 0.1  # of the highest usual level: a zone that good photos never mark decides not by its noise
SMALLEST_USUAL = 1e-4
LONGEST_NAME = 60
SCALES = (1e-6, 1e6)  # millimetres along a pixel
EVERYWHERE = "photo"


@dataclass(frozen=True)
class Zone:
    """A part of the photo with a limit of its own.

    Attributes:
        name: told as the reason.
        box: left, top, width and height in pixels of the photo.
        min_area: the smallest region that counts, in pixels; the [`Acceptance`]'s own by default.

    Raises:
        ValueError: a value of another kind or out of range, named.
    """

    name: str
    box: Box
    min_area: int | None = None

    def __post_init__(self):
        name, box = self.name, self.box
        if not isinstance(name, str) or not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
            raise ValueError(f"Expected a zone's name of 1 to {LONGEST_NAME} printable letters, got {name!r:.80}.")
        if not isinstance(box, list | tuple) or len(box) != 4 or not all(map(is_whole, box)):
            raise ValueError(f"Zone {name}: expected left, top, width and height in whole pixels, got {box!r:.60}.")
        left, top, width, height = map(int, box)
        if min(left, top) < 0 or min(width, height) < 1:
            raise ValueError(f"Zone {name}: expected a box with pixels, from 0, got {[left, top, width, height]}.")
        object.__setattr__(self, "box", (left, top, width, height))
        object.__setattr__(self, "min_area", checked_area(f"zone {name}: min_area", self.min_area))

    def lies_in(self, size: tuple[int, int]) -> bool:
        """Whether a photo of a (height, width) has all of it."""
        left, top, width, height = self.box
        return left + width <= size[1] and top + height <= size[0]


@dataclass(frozen=True)
class Acceptance:
    """A photo is anomalous if some region is at least so large, wherever it lies; in a zone by the zone's own limit.

    How high a region must be is not chosen but calibrated. Of a photo the *level* is the highest one above which its
    map has a connected region of the least area. Without zones that is its score, which is held against those of good
    photos like any score. With zones each has a usual level u of good photos, and the score is the highest
    level / (level + u) of all zones and of what lies outside them: the zone that stands out most decides.

    Attributes:
        min_area: the smallest region that counts, in pixels of the photo; outside the zones, and in those without their
            own. Every region by default.
        scale: millimetres along a pixel, which regions' areas are told by.
        zones: a region that crosses a zone's edge counts on each side by the part that lies there.
        usual: median levels of the good photos, of each zone and of what is outside; made when the profile is fitted.

    Raises:
        ValueError: a value of another kind or out of range, named.
    """

    min_area: int | None = None
    scale: float | None = None
    zones: tuple[Zone, ...] = ()
    usual: tuple[float, ...] = field(default=(), repr=False)

    def __post_init__(self):
        object.__setattr__(self, "min_area", checked_area("min_area", self.min_area))
        least, most = SCALES
        if self.scale is not None and (not is_number(self.scale) or not least <= self.scale <= most):
            raise ValueError(
                f"Expected a scale in millimetres along a pixel, from {least:g} to {most:g}, got {self.scale!r:.60}."
            )
        object.__setattr__(self, "zones", tuple(self.zones))
        names = [zone.name for zone in self.zones]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"There are two zones named {name}.")
        if self.min_area is None and not self.zones:
            raise ValueError("An acceptance takes a min_area or zones: without them the score decides.")

    @classmethod
    def of(
        cls,
        min_area: float | None = None,
        scale: float | None = None,
        zones: Sequence[tuple[str, Box, float | None]] = (),
    ) -> "Acceptance":
        """Of areas as people give them: with a scale in square millimetres, otherwise in pixels.

        Args:
            zones: name, box and least area of each.

        Raises:
            ValueError: as [`Acceptance`].
        """
        made = cls(min_area=1, scale=scale)  # which checks the scale

        def pixels(name: str, area: float | None) -> int | None:
            if area is not None and (not is_number(area) or area <= 0):
                raise ValueError(f"Expected a {name} above 0, got {area!r:.60}.")
            return None if area is None else max(1, math.ceil(area / made.pixel_area - 1e-6))

        found = tuple(Zone(name, box, pixels(f"zone {name}: min_area", area)) for name, box, area in zones)
        return cls(pixels("min_area", min_area), scale, found)

    @property
    def pixel_area(self) -> float:
        """Of a pixel, in square millimetres; 1 where the scale is not known."""
        return 1.0 if self.scale is None else self.scale**2

    def limits(self) -> list[int]:
        """The smallest region that counts, in pixels: of each zone, and outside them."""
        return [zone.min_area or self.min_area or 1 for zone in self.zones] + [self.min_area or 1]

    def outside(self, size: tuple[int, int]) -> Zone | None:
        """A zone that a photo of a (height, width) has not, or not all of; `None` where it has all."""
        return next((zone for zone in self.zones if not zone.lies_in(size)), None)

    def require_room(self, size: tuple[int, int], name: str):
        """Refuses what no photo of this size could exceed: with it nothing would ever be anomalous.

        Args:
            size: (height, width) of the photo.
            name: of the photo.

        Raises:
            ValueError: names the photo, and the zone that does not lie in it or is smaller than its limit.
        """
        if (zone := self.outside(size)) is not None:
            left, top, width, height = zone.box
            raise ValueError(
                f"{name} has {size[1]} x {size[0]} pixels, and zone {zone.name} ends at {left + width}, "
                f"{top + height}: a zone must lie in every photo."
            )
        places = [(f"zone {zone.name}", zone.box[2] * zone.box[3]) for zone in self.zones] + [(name, math.prod(size))]
        for (place, pixels), limit in zip(places, self.limits(), strict=True):
            if limit > pixels:
                raise ValueError(
                    f"{place} has {pixels} pixels, and regions would count from {limit:.6g}: none could be so large. "
                    "Give a smaller min_area, or another scale."
                )

    def levels(self, result: DetectionResult) -> list[float]:
        """Above which levels a photo's map has a region that counts: in each zone, and outside them."""
        parts = judged_parts(result, self.zones)
        return [highest_level(part.map, part.least(limit)) for part, limit in zip(parts, self.limits(), strict=True)]

    def fitted(self, levels: Sequence[Sequence[float]]) -> "Acceptance":
        """With the usual levels of good photos.

        Args:
            levels: of some good photos, of [`~Acceptance.levels`].
        """
        medians = np.median(np.asarray(levels, np.float64), axis=0)
        usual = np.maximum(medians, max(SMALLEST_USUAL, LEAST_USUAL * float(medians.max())))
        return replace(self, usual=tuple(usual.tolist()))

    def scores(self, levels: Sequence[float]) -> list[float]:
        """Scores in [0, 1] of levels, one for each zone and one for what is outside."""
        if not self.zones:
            return list(levels)
        return [level / (level + usual) for level, usual in zip(levels, self.usual, strict=True)]

    def score(self, result: DetectionResult) -> float:
        """A photo's score: that of the zone which stands out most."""
        return max(self.scores(self.levels(result)))

    def regions(self, result: DetectionResult, threshold: float) -> tuple[list[dict], str]:
        """The regions that count of a photo whose score is above the threshold, the highest first, and the reason."""
        levels, found = self.levels(result), []
        scores = self.scores(levels)
        for number, (part, limit) in enumerate(zip(judged_parts(result, self.zones), self.limits(), strict=True)):
            if scores[number] > threshold:
                above = min(self._level(threshold, number), levels[number])
                found += find_regions(part.map, above, result.size, part.least(limit))
        if self.scale is not None:
            found = [region | {"area_mm2": round(region["area"] * self.pixel_area, 6)} for region in found]
        highest = int(np.argmax(scores))
        reason = f"{ZONE} {self.zones[highest].name}" if highest < len(self.zones) else AREA
        return sorted(found, key=lambda region: -region["peak"]), reason

    def _level(self, score: float, number: int) -> float:
        """The level that has a score."""
        return score if not self.zones else max(0.0, self.usual[number] * score / (1 - score))

    def to_json(self) -> dict:
        """As `profile.json` has it."""
        zones = [{"name": zone.name, "box": list(zone.box), "min_area": zone.min_area} for zone in self.zones]
        return {"min_area": self.min_area, "scale": self.scale, "zones": zones, "usual": list(self.usual)}

    @classmethod
    def from_json(cls, content: dict) -> "Acceptance":
        zones = (Zone(each["name"], tuple(each["box"]), each["min_area"]) for each in content["zones"])
        return cls(content["min_area"], content["scale"], tuple(zones), tuple(content["usual"]))

    def describe(self) -> str:
        """A line for people."""

        def least(pixels: int) -> str:
            if pixels == 1:
                return "of any area"
            metric = "" if self.scale is None else f" ({pixels * self.pixel_area:.3g} mm²)"
            return f"from {pixels} pixels{metric}"

        *limits, outside = self.limits()
        zones = [
            f"in zone {zone.name} {list(zone.box)} {least(limit)}"
            for zone, limit in zip(self.zones, limits, strict=True)
        ]
        elsewhere = "elsewhere " if zones else ""
        return f"decides by regions: {'; '.join([*zones, elsewhere + least(outside)])}"


class Part(NamedTuple):
    """A map (h, w) that is 0 outside a zone, and how many pixels of the photo one of its pixels covers."""

    map: np.ndarray
    covered: float

    def least(self, pixels: int) -> int:
        """An area of so many of the photo's pixels, in the map's."""
        return max(1, math.ceil(pixels / self.covered - 1e-9))


def judged_parts(result: DetectionResult, zones: Sequence[Zone]) -> list[Part]:
    """The map in each zone, and outside them; as fine as the model sees it, and as it lies in the photo."""
    whole = result.map_searched()
    covered = math.prod(result.size) / whole.size
    outside, parts = whole, []
    for zone in zones:
        rows, columns = zone_in(whole.shape, result.size, zone.box)
        inside = np.zeros_like(whole)
        inside[rows, columns] = whole[rows, columns]
        outside = outside.copy() if outside is whole else outside
        outside[rows, columns] = 0
        parts.append(Part(inside, covered))
    return [*parts, Part(outside, covered)]


def zone_in(shape: tuple[int, ...], size: tuple[int, int], box: Box) -> tuple[slice, slice]:
    """Rows and columns of a map (h, w) of a photo of a (height, width) that a box of the photo covers; one at least."""
    down, right = shape[0] / size[0], shape[1] / size[1]
    left, top, width, height = box
    first_row, first_column = min(int(top * down), shape[0] - 1), min(int(left * right), shape[1] - 1)
    return (
        slice(first_row, max(first_row + 1, math.ceil((top + height) * down))),
        slice(first_column, max(first_column + 1, math.ceil((left + width) * right))),
    )


def highest_level(anomaly_map: np.ndarray, pixels: int) -> float:
    """The highest level above which a map (h, w) has a connected region (by sides and corners) of so many pixels.

    To 1 / 65536 of the level that so many pixels reach wherever they lie, and never too high; 0 without such a region.
    """
    if pixels > anomaly_map.size:
        return 0.0
    if pixels == 1:
        return max(0.0, float(np.nextafter(np.float32(anomaly_map.max()), np.float32(-1))))
    low, high = 0.0, float(np.partition(anomaly_map, -pixels, axis=None)[-pixels])
    shown = anomaly_map
    for _ in range(STEPS):
        middle = (low + high) / 2
        if has_region(above := shown > middle, pixels):
            low = middle
            rows, columns = (np.flatnonzero(above.any(axis)) for axis in (1, 0))
            shown = shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # higher regions lie within
        else:
            high = middle
    return low


def has_region(mask: np.ndarray, pixels: int) -> bool:
    """Whether a mask (h, w) has a connected part (by sides and corners) of at least so many pixels."""
    from skimage.measure import label

    if np.count_nonzero(mask) < pixels:
        return False
    return bool(np.bincount(label(mask, connectivity=2).ravel())[1:].max(initial=0) >= pixels)


def checked_area(name: str, area: int | None) -> int | None:
    if area is not None and (not is_whole(area) or area < 1):
        raise ValueError(f"Expected a {name} in whole pixels, from 1, got {area!r:.60}.")
    return None if area is None else int(area)
