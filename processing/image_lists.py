"""One image or several."""

import os
from collections.abc import Iterable

import numpy as np
from PIL import Image

from .image_loading import is_open_file
from .tensors import is_tensor


def as_list(images) -> list:
    """One image or several, as a list: lists, tuples, columns of a data set and other iterables of images are several,
    and so are arrays and tensors of four dimensions."""
    if isinstance(images, dict) and isinstance(images.get("image"), list):  # some rows of a data set
        images = images["image"]
    if is_one_image(images) and getattr(images, "ndim", 0) != 4:
        return [images]
    several = list(images)
    if not several:
        raise ValueError("Expected at least one image, got an empty list.")
    return several


def is_one_image(images) -> bool:
    """Whether something is one image, or an array or tensor of several, and not an iterable of images."""
    kinds = str | bytes | bytearray | memoryview | os.PathLike | dict | Image.Image | np.ndarray
    if isinstance(images, kinds) or is_tensor(images) or is_open_file(images):
        return True
    return not (isinstance(images, Iterable) or hasattr(images, "__getitem__"))
