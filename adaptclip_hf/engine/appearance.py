"""How a photo looks as a whole, in a few numbers: light, contrast, sharpness, and its mean patch tokens."""

import numpy as np
import torch

from ..modeling.normal_variation import mean_tokens
from ..modeling.prompt_query_adapter import unit_patch_tokens
from ..modeling.vision_encoder import ImageFeatures
from ..processing.image_processing_adaptclip import AdaptCLIPImageProcessor

MEASURES = ("light", "contrast", "roughness", "variance")
QUANTILES = (0.05, 0.95)  # of grey values: what is nearly black and white in a photo
EACH = 4  # pixel along a side enters the quantiles
HIDDEN_BELOW = 0.02  # normalised values: a hidden pixel has 0, but for its rounding


def appearance_of(
    processor: AdaptCLIPImageProcessor, pixel_values: torch.Tensor, features: ImageFeatures
) -> np.ndarray:
    """(4 + n * d,) float32 of a tile: its `MEASURES`, and the mean patch tokens of n layers.

    Args:
        pixel_values: (1, 3, S, S).
        features: of this tile alone.
    """
    whole = mean_tokens([unit_patch_tokens(layer) for layer in features.patch_embeds])[0]
    seen = measures(pixel_values[0].float().cpu(), *scale_of(processor))
    return np.concatenate([seen, whole.float().cpu().numpy().ravel()]).astype(np.float32)


def measures(pixel_values: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> list[float]:
    """The `MEASURES` of pixel values (3, S, S), of their grey values from 0 to 1: a high quantile, its distance to a
    low one, the mean square of the Laplacian, and the variance. What is hidden does not count."""
    hidden = (pixel_values.abs() < HIDDEN_BELOW).all(0)
    grey = (pixel_values * deviation + mean).mean(0)
    seen = grey[::EACH, ::EACH][~hidden[::EACH, ::EACH]].numpy()
    if not seen.size:
        return [0.0] * len(MEASURES)
    dark, light = np.quantile(seen, QUANTILES)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    laplacian = (4 * grey[1:-1, 1:-1] - around)[~hidden[1:-1, 1:-1]]
    roughness = float(laplacian.square().mean()) if laplacian.numel() else 0.0
    return [float(light), float(light - dark), roughness, float(seen.var())]


def scale_of(processor: AdaptCLIPImageProcessor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation (3, 1, 1) of pixel values."""
    if not processor.do_normalize:
        return torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    mean, deviation = (torch.tensor(each).view(3, 1, 1) for each in (processor.image_mean, processor.image_std))
    return mean, deviation
