"""Which colour a value of an anomaly map has: the same colour means the same value in every image of one scale."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

LEVELS = 256
# value -> red, green, blue (0..255) and opacity (0..1) over the image
FIXED_STOPS = (
    (0.05, 0, 0, 128, 0.0),
    (0.15, 0, 96, 255, 0.3),
    (0.25, 0, 220, 140, 0.45),
    (0.4, 255, 230, 0, 0.6),
    (0.6, 255, 60, 0, 0.7),
    (1.0, 200, 0, 0, 0.8),
)
# how far a value lies on the way from what good photos reach to 1, and the stop above that is reached there
WAYS = ((0.0, 1), (0.15, 2), (0.35, 3), (0.65, 4), (1.0, 5))


@dataclass(frozen=True)
class ColourScale:
    """A scale of colours for values in [0, 1].

    Without `start` it is one fixed scale for all products: blue from about 0.15, green 0.25, yellow 0.4, red from 0.6,
    because few-shot maps hold a harmonic mean with a cosine distance and seldom go higher.

    With `start` nothing is coloured up to it, and colours run from blue there to dark red at 1: what the maps of good
    photos reach stays as it is in the photo.

    Attributes:
        start: what the maps of good photos reach, a profile's `pixel_threshold`; `None` for the fixed scale.
    """

    start: float | None = None

    @property
    def low(self) -> float:
        """The value up to which nothing is coloured, within [0, 1]."""
        return 0.0 if self.start is None else min(max(self.start, 0.0), 1.0)

    @cached_property
    def stops(self) -> tuple[tuple[float, float, float, float, float], ...]:
        """(value, red, green, blue, opacity): colours run evenly from one to the next, none before the first."""
        if self.start is None:
            return FIXED_STOPS
        return tuple((self.low + way * (1 - self.low), *FIXED_STOPS[stop][1:]) for way, stop in WAYS)

    def to_json(self) -> dict:
        """For a legend: `start`, and `stops` with `value`, `colour` ("#rrggbb") and `opacity` over the photo."""
        stops = [
            {"value": round(value, 4), "colour": f"#{red:02x}{green:02x}{blue:02x}", "opacity": opacity}
            for value, red, green, blue, opacity in self.stops
        ]
        return {"start": self.start, "stops": stops}

    def blended(self, pixels: np.ndarray, anomaly_map: np.ndarray) -> np.ndarray:
        """Pixels (h, w, 3) uint8 under a map (h, w), uint8. Most of a photo is not coloured, and only copied."""
        levels = np.clip((anomaly_map - self.low) * self._levels_in_one, 0, LEVELS - 1)
        levels = (levels + 0.5).astype(np.uint8) if self.start is None else np.ceil(levels).astype(np.uint8)
        colours, opacities = self._table
        drawn = np.array(pixels)
        coloured = np.flatnonzero(opacities[levels])
        levels, flat = levels.reshape(-1)[coloured], drawn.reshape(-1, 3)
        under = flat[coloured] * (1 - opacities)[levels, None]
        flat[coloured] = (under + (colours * opacities[:, None])[levels] + 0.5).astype(np.uint8)
        return drawn

    @property
    def _levels_in_one(self) -> np.float32:
        return np.float32((LEVELS - 1) / max(1 - self.low, 1e-6))

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """The colour (256, 3) and the opacity (256,) of each level from the lowest value, which has none, to 1."""
        values, stops = np.linspace(self.low, 1, LEVELS), np.array(self.stops)
        colours = np.stack([np.interp(values, stops[:, 0], stops[:, channel]) for channel in (1, 2, 3)], 1)
        opacities = np.interp(values, stops[:, 0], stops[:, 4])
        opacities[0] = 0
        return colours.astype(np.float32), opacities.astype(np.float32)


FIXED = ColourScale()
