"""Whatever users hand over as an image or a mask, as 8-bit RGB or as booleans."""

import io
import urllib.request
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

MIN_SIDE = 8
MAX_ASPECT_RATIO = 100
URL_SCHEMES = ("http://", "https://", "data:image/")
URL_TIMEOUT = 30


def load_image(source) -> Image.Image:
    """An upright 8-bit RGB image of a path, URL, PIL image, array or tensor.

    Args:
        source: PIL images may have any mode (16-bit greys are read over their full range, transparency is dropped).
            Arrays are (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4; 8-bit or 16-bit unsigned, boolean, or
            floats in [0, 1].

    Raises:
        FileNotFoundError: no such file.
        ValueError: what cannot be read as an image, names the file and what was expected.
    """
    if isinstance(source, str | Path):
        image = open_image(source)
        name = str(source)[:200]
    elif isinstance(source, Image.Image):
        image, name = source, getattr(source, "filename", "") or "the image"
    elif isinstance(source, np.ndarray | torch.Tensor):
        image, name = image_from_array(source), "the array"
    else:
        raise ValueError(f"Expected a path, URL, PIL image, array or tensor as an image, got {type(source).__name__}.")
    try:
        image = ImageOps.exif_transpose(image)
        image = to_rgb(image)
    except Exception as error:
        raise ValueError(f"{name} cannot be decoded as an image: {error}") from error
    check_size(image, name)
    return image


def open_image(source: str | Path) -> Image.Image:
    """Opens a path or URL; the pixels are decoded later."""
    if str(source).startswith(URL_SCHEMES):
        try:
            with urllib.request.urlopen(str(source), timeout=URL_TIMEOUT) as response:
                return Image.open(io.BytesIO(response.read()))
        except Exception as error:
            raise ValueError(f"{str(source)[:200]} cannot be fetched as an image: {error}") from error
    path = Path(source)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected an image file.")
    if not path.is_file():
        raise FileNotFoundError(f"No such image file: {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); expected an image file.")
    try:
        return Image.open(path)
    except Exception as error:
        reason = "not an image format that Pillow knows" if isinstance(error, Image.UnidentifiedImageError) else error
        raise ValueError(f"{path} cannot be opened as an image: {reason}.") from error


def to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"integer pixels range from {values.min()} to {values.max()}, expected 0 to 65535")
        image = Image.fromarray(sixteen_to_eight_bits(values))
    elif image.mode == "F":
        image = image_from_array(np.asarray(image))
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    elif image.mode in ("P", "PA"):
        # straight from a palette with transparency Pillow warns; by way of RGBA the colours are the same
        image = image.convert("RGBA")
    return image.convert("RGB")


def sixteen_to_eight_bits(values: np.ndarray) -> np.ndarray:
    return np.round(values / 257).astype(np.uint8)


def image_from_array(array: np.ndarray | torch.Tensor) -> Image.Image:
    """An 8-bit image of an array or tensor in one of the layouts that `load_image` names."""
    channels_first = isinstance(array, torch.Tensor)
    array = array.detach().cpu().float().numpy() if channels_first and array.is_floating_point() else np.asarray(array)
    shape = array.shape
    if array.ndim == 3 and (channels_first or shape[-1] not in (1, 3, 4)) and shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in shape:
        raise ValueError(
            f"Expected an image of shape (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, got {shape}."
        )
    array = to_eight_bits(array)[..., :3]
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else np.ascontiguousarray(array))


def to_eight_bits(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return sixteen_to_eight_bits(array)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ValueError("The image holds values that are not finite (NaN or infinity); expected floats in [0, 1].")
        if array.min() < 0 or array.max() > 1:
            raise ValueError(
                f"Floats range from {array.min():.4g} to {array.max():.4g}; expected [0, 1], not normalised."
            )
        return np.round(array * 255).astype(np.uint8)
    if np.issubdtype(array.dtype, np.integer) and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    raise ValueError(f"Expected an image of 8-bit or 16-bit unsigned integers or floats in [0, 1], got {array.dtype}.")


def check_size(image: Image.Image, name: str):
    """An image must hold something to inspect, and survive being resized to a square."""
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{name} has {width}x{height} pixels; expected at least {MIN_SIDE} on each side.")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(
            f"{name} has {width}x{height} pixels, a ratio over {MAX_ASPECT_RATIO}:1; cut it into pieces first."
        )


def load_mask(source) -> np.ndarray:
    """A mask as booleans (H, W): true where any channel of the path, PIL image, array or tensor is above 0.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what cannot be read as a mask.
    """
    if isinstance(source, str | Path):
        source = open_image(source)
    if isinstance(source, Image.Image):
        source = source.convert("L") if source.mode == "P" else source
    try:
        mask = np.asarray(source)
    except Exception as error:
        raise ValueError(f"The mask cannot be decoded: {error}") from error
    if mask.ndim == 3:
        # colour and transparency: alpha is no part of a mask
        mask = mask.max(0) if mask.shape[0] == 1 else mask[..., : 1 if mask.shape[-1] in (1, 2) else 3].max(-1)
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(f"Expected a mask of shape (H, W), got {mask.shape}.")
    return mask > 0
