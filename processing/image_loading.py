"""Reads images and masks of any kind, as 8-bit RGB and as booleans."""

import base64
import io
import re
import urllib.request
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

MIN_SIDE = 8
MAX_ASPECT_RATIO = 100
URL_SCHEMES = ("http://", "https://", "file://", "data:image/")
URL_TIMEOUT = 30
LONGEST_NAME = 1024  # characters; a longer string is no path
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")


def load_image(source) -> Image.Image:
    """An upright 8-bit RGB image of anything that holds one; the file is read once.

    Args:
        source: a path, URL (`http`, `https`, `file`, `data`), base64 text, bytes, PIL image, array, tensor, or a data
            set's undecoded row (`{"path", "bytes"}`). PIL images may have any mode (16-bit greys are read over their
            full range, transparency is dropped). Arrays are (H, W), (H, W, C) or (C, H, W) with C of 1, 3 or 4; 8-bit
            or 16-bit unsigned, boolean, or floats in [0, 1].

    Raises:
        FileNotFoundError: no such file.
        ValueError: what cannot be read as an image, names the file and what was expected.
    """
    name = name_of(source)
    image = open_image(source)
    try:
        # an RGB image in memory is not copied, because it may be large
        if type(image) is not Image.Image or image.mode != "RGB" or image.getexif():
            image = to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:
        raise ValueError(f"{name} cannot be decoded as an image: {error}") from error
    check_size(image, name)
    return image


def name_of(source) -> str:
    """What errors and results call an image: its path or URL, or what kind of thing it is."""
    if isinstance(source, dict):
        return str(source.get("path") or "an image without a file name")
    if isinstance(source, str):
        return f"{source[:60]}..." if len(source) > LONGEST_NAME or source.startswith("data:") else source
    if isinstance(source, Path):
        return str(source)
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or "the image"
    if isinstance(source, bytes | bytearray):
        return f"{len(source)} bytes"
    return "the array"


def open_image(source) -> Image.Image:
    """Opens whatever `load_image` takes; the pixels of a file are decoded later."""
    if isinstance(source, dict):
        source = source["path"] if source.get("bytes") is None else source["bytes"]
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray | torch.Tensor):
        return image_from_array(source)
    if isinstance(source, bytes | bytearray):
        return open_bytes(bytes(source), name_of(source))
    if isinstance(source, str) and source.startswith(URL_SCHEMES):
        return open_bytes(fetch(source), name_of(source))
    if isinstance(source, str) and (scheme := re.match(r"([a-zA-Z][\w+.-]+)://", source)):
        raise ValueError(f"{name_of(source)}: {scheme[1]}:// cannot be read; expected a file, http:// or https://.")
    if isinstance(source, str) and is_base64(source):
        return open_bytes(from_base64(source), f"the base64 text {source[:20]}...")
    if isinstance(source, str | Path):
        return open_file(Path(source))
    raise ValueError(
        f"Expected a path, URL, bytes, PIL image, array or tensor as an image, got {type(source).__name__}."
    )


def open_file(path: Path) -> Image.Image:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected an image file.")
    if not path.is_file():
        raise FileNotFoundError(f"No such image file: {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); expected an image file.")
    return identified(path, str(path))


def open_bytes(content: bytes, name: str) -> Image.Image:
    if not content:
        raise ValueError(f"{name}: there are no bytes; expected an image file's.")
    return identified(io.BytesIO(content), name)


def identified(file: Path | io.BytesIO, name: str) -> Image.Image:
    try:
        return Image.open(file)
    except Exception as error:
        reason = "not an image format that Pillow knows" if isinstance(error, Image.UnidentifiedImageError) else error
        raise ValueError(f"{name} cannot be opened as an image: {reason}.") from error


def fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT) as response:
            return response.read()
    except Exception as error:
        raise ValueError(f"{name_of(url)} cannot be fetched as an image: {error}") from error


def is_base64(text: str) -> bool:
    """Whether a text can be no path, or looks like base64 and is no path."""
    return len(text) > LONGEST_NAME or bool(BASE64.fullmatch(text) and not Path(text).exists())


def from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise ValueError(
            f"{name_of(text)} is neither a path, being {len(text)} characters long, nor base64: {error}."
        ) from error


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
    return image if image.mode == "RGB" else image.convert("RGB")


def sixteen_to_eight_bits(values: np.ndarray) -> np.ndarray:
    return np.round(values / 257).astype(np.uint8)


def image_from_array(array: np.ndarray | torch.Tensor) -> Image.Image:
    """An 8-bit image of an array or tensor in one of the layouts that `load_image` names."""
    channels_first = isinstance(array, torch.Tensor)
    array = to_numpy(array)
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


def to_numpy(array: np.ndarray | torch.Tensor) -> np.ndarray:
    """A tensor of any device; half precision as float32."""
    if not isinstance(array, torch.Tensor):
        return np.asarray(array)
    array = array.detach().cpu()
    return (array.float() if array.is_floating_point() else array).numpy()


def load_mask(source) -> np.ndarray:
    """A mask as booleans (H, W): true where any channel is above 0, alpha left out.

    Args:
        source: whatever `load_image` takes; tensors are (H, W) or (C, H, W), arrays (H, W) or (H, W, C), with C of 1 to
            4.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what cannot be read as a mask.
    """
    name, channels_first = name_of(source), isinstance(source, torch.Tensor)
    if isinstance(source, np.ndarray | torch.Tensor):
        mask = to_numpy(source)
    else:
        image = open_image(source)
        try:
            mask = np.asarray(image.convert("L") if image.mode == "P" else image)
        except Exception as error:
            raise ValueError(f"{name}: the mask cannot be decoded: {error}") from error
    if mask.ndim == 3 and (channels_first or mask.shape[0] == 1):
        mask = np.moveaxis(mask, 0, -1)
    if mask.ndim == 3 and mask.shape[-1] in (1, 2, 3, 4):
        mask = mask[..., : 1 if mask.shape[-1] in (1, 2) else 3].max(-1, initial=0)
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(f"{name}: expected a mask of shape (H, W) or with 1 to 4 channels, got {mask.shape}.")
    return mask > 0


def resized_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask of booleans (H, W) as float32 (height, width) of 0 and 1: 0/255, bilinear, above one half."""
    resized = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    return (np.asarray(resized) / 255 > 0.5).astype(np.float32)
