"""How a photo looks as a whole, in a few numbers: light, contrast, sharpness, and its mean patch tokens."""

from typing import TYPE_CHECKING

import numpy as np

from ..processing.image_loading import to_numpy
from .contract import Array, ScoringModel, arrays_of
from .images import PixelReader

if TYPE_CHECKING:
    from ..modeling.vision_encoder import ImageFeatures

MEASURES = ("light", "contrast", "roughness", "variance")
QUANTILES = (0.05, 0.95)  # of grey values: what is nearly black and white in a photo
EACH = 4  # pixel along a side enters the quantiles
HIDDEN_BELOW = 0.02  # normalised values: a hidden pixel has 0, but for its rounding


def appearance_of(
    model: ScoringModel, processor: PixelReader, pixel_values: Array, features: "ImageFeatures", number: int
) -> np.ndarray:
    """(4 + n * d,) float32 of a tile: its `MEASURES`, and the mean patch tokens of n layers.

    Args:
        pixel_values: (1, 3, S, S).
        number: of the tile among those that were encoded.
    """
    seen = measures(pixel_values[0], *scale_of(processor))
    return np.concatenate([seen, arrays_of(model).mean_tokens(features, number).ravel()]).astype(np.float32)


def measures(pixel_values: Array, mean: np.ndarray, deviation: np.ndarray) -> list[float]:
    """The `MEASURES` of pixel values (3, S, S), of their grey values from 0 to 1: a high quantile, its distance to a
    low one, the mean square of the Laplacian, and the variance. What is hidden does not count."""
    values = to_numpy(pixel_values)
    hidden = (np.abs(values) < HIDDEN_BELOW).all(0)
    grey = (values * deviation + mean).mean(0)
    seen = grey[::EACH, ::EACH][~hidden[::EACH, ::EACH]]
    if not seen.size:
        return [0.0] * len(MEASURES)
    dark, light = np.quantile(seen, QUANTILES)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = (4 * grey[1:-1, 1:-1] - around)[~hidden[1:-1, 1:-1]]
    roughness = float(np.square(laplacian).mean()) if laplacian.size else 0.0
    return [float(light), float(light - dark), roughness, float(seen.var())]


def scale_of(processor: PixelReader) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (3, 1, 1) of pixel values."""
    if not processor.do_normalize:
        return np.zeros((3, 1, 1), np.float32), np.ones((3, 1, 1), np.float32)
    mean, deviation = (np.array(each, np.float32) for each in (processor.image_mean, processor.image_std))
    return mean.reshape(3, 1, 1), deviation.reshape(3, 1, 1)
