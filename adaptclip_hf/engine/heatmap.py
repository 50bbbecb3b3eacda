"""Anomaly maps as pictures, on one fixed scale: the same colour means the same value in every image."""

import base64
import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..processing.image_opening import by_strips, strips

# value -> red, green, blue (0..255) and opacity (0..1) over the image
STOPS = np.array(
    [
        (0.05, 0, 0, 128, 0.0),
        (0.15, 0, 96, 255, 0.3),
        (0.25, 0, 220, 140, 0.45),
        (0.4, 255, 230, 0, 0.6),
        (0.6, 255, 60, 0, 0.7),
        (1.0, 200, 0, 0, 0.8),
    ]
)
DRAWN = "adaptclip-hf"  # what our files of pictures say in the field `Software` of a PNG, the comment of a JPEG
SIXTEEN_BITS = 65535
LEVELS = np.linspace(0, 1, 256)
COLOURS = np.stack([np.interp(LEVELS, STOPS[:, 0], STOPS[:, channel]) for channel in (1, 2, 3)], 1).astype(np.float32)
OPACITY = np.interp(LEVELS, STOPS[:, 0], STOPS[:, 4]).astype(np.float32)


def render_heatmap(image: Image.Image, anomaly_map: np.ndarray) -> Image.Image:
    """The map over its image, at the image's size.

    Blue from about 0.15, green 0.25, yellow 0.4, red from 0.6: few-shot maps hold a harmonic mean with a cosine
    distance and seldom go higher. Nothing is rescaled, so a good part stays as it is.

    Args:
        image: RGB, of the map's size.
        anomaly_map: (H, W) in [0, 1].

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
        drawn.paste(Image.fromarray(blended(np.asarray(strip, np.float32), anomaly_map[rows])), (0, rows.start))
    return drawn


def blended(pixels: np.ndarray, anomaly_map: np.ndarray) -> np.ndarray:
    """Pixels (h, w, 3) under a map (h, w), uint8."""
    levels = (np.clip(anomaly_map, 0, 1) * 255 + 0.5).astype(np.uint8)
    opacity = OPACITY[levels][..., None]
    return (pixels * (1 - opacity) + COLOURS[levels] * opacity + 0.5).astype(np.uint8)


def save_drawn(image: Image.Image, file: str | Path | BinaryIO):
    """Writes a picture of ours as PNG, which says so: it is never taken for a photo, wherever it is copied."""
    fields = PngInfo()
    fields.add_text("Software", DRAWN)
    image.save(file, "PNG", pnginfo=fields)


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
