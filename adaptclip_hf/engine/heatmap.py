"""Anomaly maps as pictures."""

import base64
import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..processing.image_opening import by_strips, strips
from .colour_scale import FIXED, ColourScale

DRAWN = "adaptclip-hf"  # what our files of pictures say in the field `Software` of a PNG, the comment of a JPEG
SIXTEEN_BITS = 65535
# of a PNG: a few per cent larger than at the usual level, and written in a fifth of the time
QUICK = {"compress_level": 1}


def render_heatmap(image: Image.Image, anomaly_map: np.ndarray, colours: ColourScale = FIXED) -> Image.Image:
    """The map over its image, at the image's size. Nothing is rescaled, so a good part stays as it is.

    Args:
        image: RGB, of the map's size.
        anomaly_map: (H, W) in [0, 1].
        colours: of values, see [`ColourScale`].

    Raises:
        ValueError: image and map have different sizes.
    """
    height, width = anomaly_map.shape
    if image.size != (width, height):
        raise ValueError(
            f"Expected an image of {width}x{height} pixels, as the map has, got {image.width}x{image.height}."
        )
    drawn = Image.new("RGB", image.size)
    for rows in strips(height, width):
        strip = image.crop((0, rows.start, width, rows.stop))
        drawn.paste(Image.fromarray(colours.blended(np.asarray(strip), anomaly_map[rows])), (0, rows.start))
    return drawn


def save_drawn(image: Image.Image, file: str | Path | BinaryIO):
    """Writes a picture of ours as PNG, which says so: it is never taken for a photo, wherever it is copied."""
    fields = PngInfo()
    fields.add_text("Software", DRAWN)
    image.save(file, "PNG", pnginfo=fields, **QUICK)


def require_photo(image: Image.Image, name: str):
    """
    Raises:
        ValueError: the image is of a file of ours: a heatmap, or a picture of an evaluation.
    """
    if image.info.get("Software") == DRAWN or image.info.get("comment") == DRAWN.encode():
        raise ValueError(f"{name} is a picture that adaptclip drew; expected a photo.")


def map_image(anomaly_map: np.ndarray) -> Image.Image:
    """A map (H, W) in [0, 1] as a 16-bit grey image, in which 65535 is 1."""
    values = by_strips(anomaly_map, lambda strip: (strip * SIXTEEN_BITS + 0.5).astype(np.uint16), np.uint16)
    return Image.fromarray(values)


def image_bytes(image: Image.Image, file_format: str, **options) -> bytes:
    """The content of an image file; `options` are those of Pillow's `save`."""
    content = io.BytesIO()
    image.save(content, file_format, **options)
    return content.getvalue()


def image_base64(image: Image.Image, file_format: str, **options) -> str:
    """An image file in base64."""
    return base64.b64encode(image_bytes(image, file_format, **options)).decode()


def data_url(image: Image.Image, longest_side: int, quality: int) -> str:
    """A JPEG copy for a web page, with no side longer than `longest_side` pixels."""
    image = image.copy()
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return f"data:image/jpeg;base64,{image_base64(image, 'JPEG', quality=quality, optimize=True)}"
