"""Whether a photo can be inspected at all: judged by what the good photos spread over, with a generous margin."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..engine.appearance import MEASURES
from ..processing.image_loading import to_numpy
from ..runtimes.numpy_tokens import whole_distances
from .photos import ProfilePhoto

if TYPE_CHECKING:
    from .numpy_features import NumpyFeatures
    from .photo_features import PhotoFeatures

TOO_DARK, EMPTY, BLURRED, UNLIKE = "too dark", "empty", "blurred", "unlike the product"
UNSEEN = (TOO_DARK, EMPTY, BLURRED)  # whatever the part is
EITHER = f"{BLURRED}, or {UNLIKE}"  # another product that is smoother looks as this one does when it is much blurred
FEWEST = 5  # good photos that tell what is usual
# how far below the median light and contrast may lie: so many times as far as the good photos do, and so many times
# darker and flatter at least
REACHES, TIMES_DARKER = 3.0, 4.0
# how far a photo's mean patch token may lie from the nearest good one's: so many times as far as good ones lie from one
# another, and so far at least (cosine distance)
TIMES_UNLIKE, LEAST_UNLIKE = 6.0, 0.25
# a blurred photo is smoother (in the square of differences of neighbours), and its tokens lie farther off than any good
# ones: a smooth part alone is no blur
BLURRED_REACHES, TIMES_SMOOTHER, TIMES_FARTHER = 1.3, 4.0, 3.0
DARKEST = 1e-6  # so that logarithms stay finite


@dataclass(frozen=True)
class Inspectable:
    """What a photo must show to be inspected.

    Attributes:
        light, contrast, sharpness: the least logarithms of [`qualities`].
        usual: how far good photos lie from one another at most, see [`unlikeness`].
        unlike: how far a photo may lie from the nearest good one.
    """

    light: float
    contrast: float
    sharpness: float
    usual: float
    unlike: float

    @classmethod
    def of(cls, looks: Sequence[Sequence[float]], wholes: np.ndarray) -> "Inspectable | None":
        """By good photos; `None` where there are too few, or where it is not known how some of them look.

        Args:
            looks: their `MEASURES`.
            wholes: (k, n, d), of [`mean_tokens_of`].
        """
        if len(looks) < FEWEST or not all(looks):
            return None
        seen = qualities(np.asarray(looks, np.float64))  # (k, 3)
        median = np.median(seen, axis=0)
        reach = median - seen.min(0)
        margins = np.log([TIMES_DARKER, TIMES_DARKER, TIMES_SMOOTHER])
        least = median - np.maximum([REACHES, REACHES, BLURRED_REACHES] * reach, margins)
        wholes = to_numpy(wholes)
        usual = float(whole_distances(wholes, wholes, itself=True).mean(1).max())
        light, contrast, sharpness = least.tolist()
        return cls(light, contrast, sharpness, usual, max(LEAST_UNLIKE, TIMES_UNLIKE * usual))

    def reason(self, appearance: np.ndarray, wholes: np.ndarray) -> str | None:
        """Why a photo cannot be inspected; `None` where it can.

        Args:
            appearance: of [`appearance_of`].
            wholes: of the good photos.
        """
        light, contrast, sharpness = qualities(appearance[None, : len(MEASURES)].astype(np.float64))[0]
        if light < self.light:
            return TOO_DARK
        if contrast < self.contrast:
            return EMPTY
        distance = unlikeness(appearance, wholes)
        blurred = sharpness < self.sharpness and distance > TIMES_FARTHER * self.usual
        if distance > self.unlike:
            return EITHER if blurred else UNLIKE
        return BLURRED if blurred else None

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def qualities(looks: np.ndarray) -> np.ndarray:
    """(k, 4) `MEASURES` -> (k, 3) logarithms of light, contrast and sharpness: roughness beside variance, so that it
    does not depend on the light."""
    light, contrast, roughness, variance = np.maximum(looks, DARKEST).T
    return np.log(np.stack([light, contrast, roughness / variance], axis=1))


def unlikeness(appearance: np.ndarray, wholes: np.ndarray) -> float:
    """Cosine distance of a photo's mean patch token to that of the nearest good photo, the mean over the layers."""
    token = appearance[len(MEASURES) :].reshape(1, *wholes.shape[1:])
    return float(whole_distances(token, to_numpy(wholes)).mean())


def mean_tokens_of(features: "PhotoFeatures | NumpyFeatures", photos: Iterable[ProfilePhoto]) -> np.ndarray:
    """(k, n, d) float32 mean patch token of each photo in each layer, over all its tiles."""
    return features.wholes(photos)
