"""An image that was read and cut, on its way to the model."""

from dataclasses import dataclass

import torch
from PIL import Image

from .view import Pieces


@dataclass(frozen=True)
class Photo:
    """An image that was read and how it is cut, or why it could not be; of one piece its pixel values, if they are
    ready."""

    name: str
    image: Image.Image | None = None
    pieces: Pieces | None = None
    error: str | None = None
    pixel_values: torch.Tensor | None = None
