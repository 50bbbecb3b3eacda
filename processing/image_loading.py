"""Reads images and masks of any kind, as 8-bit RGB and as booleans."""

import base64
import binascii
import io
import os
import re
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
from PIL import Image, ImageFile, ImageOps

from .image_opening import (
    ORIENTATION,
    ImageWarning,
    check_size,
    eight_bits,
    eight_bits_of_floats,
    is_white_zero,
    open_picture,
    reason,
    require_picture,
    rgb_of,
)
from .tensors import is_tensor

if TYPE_CHECKING:
    import torch

DATA_URL = "data:"
URL_SCHEMES = ("http://", "https://", "file://", DATA_URL)
URL_TIMEOUT = 30  # seconds that a server may be silent, and that the whole image may take
LARGEST_DOWNLOAD = 500_000_000  # bytes
CHUNK = 2**20
LONGEST_NAME = 1024  # characters; a longer text is shortened in messages where it is no path
LONGEST_PATH, LONGEST_PART = 32_767, 255  # characters; no system has longer paths, and names in them
BASE64 = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")
LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")


def load_image(source, bit_depth: int | None = None, keep_channels: bool = False) -> Image.Image:
    """An upright 8-bit RGB image of anything that holds one; the file is read once.

    Args:
        source: a path, URL (`http`, `https`, `file`, `data`), base64 text, bytes, open binary file, PIL image, array,
            tensor, or a data set's row with an `image` or its undecoded image (`{"path", "bytes"}`). PIL images may
            have any mode (16-bit greys are read over their full range, transparency is dropped). Arrays are (H, W),
            (H, W, C) or (C, H, W) with C of 1, 3 or 4; 8-bit or 16-bit unsigned, boolean, or floats in [0, 1].
        bit_depth: the bits that 16-bit greys use, 8 to 16; by default what their file says, or all. Values that do not
            fit are refused. Where none is given and an image uses up to 14 bits, an [`ImageWarning`] says so.
        keep_channels: leave 8-bit greys as they are, and RGB with its transparency.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what cannot be read as an image, such as a file of several pages; names the file and what was
            expected.
    """
    source = image_of_row(source)
    name = name_of(source)
    image = open_image(source, bit_depth, keep_channels)
    try:
        if keep_channels and image.mode in ("L", "RGBA"):
            image = ImageOps.exif_transpose(image)
        # an RGB image in memory is not copied, because it may be large
        elif type(image) is not Image.Image or image.mode != "RGB" or image.getexif():
            image = rgb_of(image, name, bit_depth)
    except Exception as error:
        raise ValueError(f"{name} cannot be decoded as an image: {reason(error)}.") from error
    check_size(image, name)
    return image


def image_of_row(source):
    """The image of a data set's row; all else as it is."""
    return source["image"] if isinstance(source, dict) and source.get("image") is not None else source


def name_of(source) -> str:
    """What errors and results call an image: its path or URL, or what kind of thing it is."""
    source = image_of_row(source)
    if isinstance(source, dict):
        return str(source.get("path") or "an image without a file name")
    if isinstance(source, str):
        return f"{source[:60]}..." if is_data_url(source) or is_long(source) else source
    if isinstance(source, os.PathLike):
        return os.fspath(source)
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "the image")
    if isinstance(source, bytes | bytearray | memoryview):
        return f"{len(source)} bytes"
    if is_open_file(source):
        return str(getattr(source, "name", "") or "the open file")
    return "the array"


def is_long(text: str) -> bool:
    """Whether a text is too long for a message, and no path."""
    return len(text) > LONGEST_NAME and not exists(text)


def exists(path: str) -> bool:
    """Whether there is something at a path; nothing is where the path is too long or no path at all."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def is_open_file(source) -> bool:
    """Whether a thing is an open file, or one in memory such as `BytesIO`."""
    kinds = Image.Image | np.ndarray
    return callable(getattr(source, "read", None)) and not isinstance(source, kinds) and not is_tensor(source)


def is_data_url(text: str) -> bool:
    return text[: len(DATA_URL)].lower() == DATA_URL


def open_image(source, bit_depth: int | None = None, keep_channels: bool = False) -> Image.Image:
    """Opens whatever `load_image` takes; the pixels of a file are decoded later."""
    if isinstance(source, dict):
        if source.get("bytes") is None and not source.get("path"):
            raise ValueError(
                "Expected a data set's row with an `image`, or its undecoded image with `bytes` or `path`; got "
                f"{', '.join(map(str, source)) or 'an empty one'}."
            )
        name, source = name_of(source), source["path"] if source.get("bytes") is None else source["bytes"]
        if isinstance(source, bytes):
            return open_bytes(source, name)
        if isinstance(source, str) and "://" in source:  # a data set that is here names files, and fetches nothing
            raise ValueError(f"{name_of(source)}: expected the path of a file in a data set's row, not an address.")
    if isinstance(source, Image.Image):
        require_picture(source, name_of(source))
        return source
    if isinstance(source, np.ndarray) or is_tensor(source):
        return image_from_array(source, bit_depth, keep_channels)
    if isinstance(source, bytes | bytearray | memoryview):
        return open_bytes(bytes(source), name_of(source))
    if is_open_file(source):
        return open_bytes(content_of_file(source), name_of(source))
    if isinstance(source, str):
        return open_text(source)
    if isinstance(source, os.PathLike):
        return open_file(Path(source))
    raise ValueError(
        "Expected a path, URL, bytes, open binary file, PIL image, array or tensor as an image, got "
        f"{type(source).__name__}."
    )


def open_text(text: str) -> Image.Image:
    """The image that a path, URL or base64 text names or holds."""
    scheme = re.match(r"([a-zA-Z][\w+.-]+)://", text)
    if scheme and scheme[1].lower() == "file":
        return open_file(Path(urllib.request.url2pathname(urlsplit(text).path)))
    if scheme and scheme[1].lower() in ("http", "https"):
        return open_bytes(fetch(text), name_of(text))
    if scheme:
        raise ValueError(f"{name_of(text)}: {scheme[1]}:// cannot be read; expected a file, http:// or https://.")
    if is_data_url(text):
        return open_bytes(content_of_text(text), name_of(text))
    if is_base64(text):
        return open_bytes(content_of_text(text), f"the base64 text {text[:20]}...")
    return open_file(Path(text))


def open_file(path: Path) -> Image.Image:
    try:
        if path.is_dir():
            raise ValueError(f"{path} is a folder; expected an image file.")
        if not path.is_file():
            raise FileNotFoundError(f"No such image file: {path}")
        if path.stat().st_size == 0:
            raise ValueError(f"{path} is empty (0 bytes); expected an image file.")
    except OSError as error:  # also a name that is too long
        if isinstance(error, FileNotFoundError):
            raise
        raise type(error)(f"{name_of(str(path))} cannot be opened: {error.strerror}.") from error
    return open_picture(path, str(path))


def open_bytes(content: bytes, name: str) -> Image.Image:
    if not content:
        raise ValueError(f"{name}: there are no bytes; expected an image file's.")
    return open_picture(io.BytesIO(content), name)


def content_of_file(file) -> bytes:
    """All bytes of an open file, whose position stays where it is.

    Raises:
        ValueError: it was opened as text, or is closed.
    """
    seekable = callable(getattr(file, "seekable", None)) and file.seekable()
    place = file.tell() if seekable else 0
    if seekable:
        file.seek(0)
    content = file.read()
    if seekable:
        file.seek(place)
    if not isinstance(content, bytes | bytearray):
        raise ValueError(f'{name_of(file)} is open as text; open it with mode "rb".')
    return bytes(content)


def fetch(url: str) -> bytes:
    deadline, parts, size = time.monotonic() + URL_TIMEOUT, [], 0
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT) as response:
            while part := response.read1(CHUNK):
                size += len(part)
                if size > LARGEST_DOWNLOAD:
                    raise ValueError(f"it is larger than {LARGEST_DOWNLOAD} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"it did not come within {URL_TIMEOUT} s")
                parts.append(part)
    except Exception as error:
        raise ValueError(f"{name_of(url)} cannot be fetched as an image: {error}") from error
    return b"".join(parts)


def is_base64(text: str) -> bool:
    """Whether a text looks like base64 and is no path, or is too long for one."""
    too_long = len(text) > LONGEST_PATH or any(len(part) > LONGEST_PART for part in re.split(r"[/\\]", text))
    return too_long or bool(BASE64.fullmatch(text) and not exists(text))


def content_of_text(text: str) -> bytes:
    """The bytes of an image file in base64, with or without line breaks, or of a data URL of any type.

    Raises:
        ValueError: it is neither.
    """
    if not is_data_url(text):
        return from_base64(text)
    head, comma, body = text.partition(",")
    if not comma:
        raise ValueError(f"{name_of(text)}: the data URL has no comma before its data.")
    content = unquote_to_bytes(body)
    in_base64 = head.lower().rstrip().endswith(";base64")
    return from_base64(content.decode("ascii", errors="replace")) if in_base64 else content


def from_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            f"{name_of(text)} is neither a path, being {len(text)} characters long, nor base64: {error}."
        ) from error


def image_from_array(
    array: "np.ndarray | torch.Tensor", bit_depth: int | None = None, keep_channels: bool = False
) -> Image.Image:
    """An 8-bit image of an array or tensor in one of the layouts that `load_image` names."""
    channels_first = is_tensor(array)
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
    array = to_eight_bits(array if keep_channels else array[..., :3], bit_depth)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else np.ascontiguousarray(array))


def is_in_unit_range(source) -> bool:
    """Whether the values of an image in memory are from 0 to 1: floats and booleans."""
    if isinstance(source, Image.Image):
        return source.mode in ("F", "1")
    if is_tensor(source):
        return source.is_floating_point() or str(source.dtype) == "torch.bool"
    return isinstance(source, np.ndarray) and source.dtype.kind in "fb"


def to_eight_bits(array: np.ndarray, bit_depth: int | None = None) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return eight_bits(array, "the array", bit_depth)
    if np.issubdtype(array.dtype, np.floating):
        return eight_bits_of_floats(array)
    if np.issubdtype(array.dtype, np.integer) and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    raise ValueError(f"Expected an image of 8-bit or 16-bit unsigned integers or floats in [0, 1], got {array.dtype}.")


def to_numpy(tensor: "np.ndarray | torch.Tensor") -> np.ndarray:
    """A tensor of any device; half precision as float32."""
    if not is_tensor(tensor):
        return np.asarray(tensor)
    array = cast("torch.Tensor", tensor).detach().cpu()
    return (array.float() if array.is_floating_point() else array).numpy()


def load_mask(source) -> np.ndarray:
    """A mask as booleans (H, W): true where any channel is above 0, alpha left out.

    A picture that was compressed with losses, such as a JPEG, is cut at half of its highest value. Of a palette in
    colours the numbers count (0 is the background), of one in greys the greys.

    Args:
        source: whatever `load_image` takes; tensors are (H, W) or (C, H, W), arrays (H, W) or (H, W, C), with C of 1 to
            4.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what cannot be read as a mask.
    """
    return read_mask(source)[0]


def read_mask(source) -> tuple[np.ndarray, str | None]:
    """As [`load_mask`], and what is odd about it: more than two values. `None` where nothing is."""
    name, channels_first = name_of(source), is_tensor(source)
    lossy = False
    if isinstance(source, np.ndarray) or is_tensor(source):
        mask = to_numpy(source)
    else:
        image = open_image(source)
        lossy = image.format in LOSSY
        try:
            mask = mask_values(image)
        except Exception as error:
            raise ValueError(f"{name}: the mask cannot be decoded: {reason(error)}.") from error
    if mask.ndim == 3 and (channels_first or mask.shape[0] == 1):
        mask = np.moveaxis(mask, 0, -1)
    if mask.ndim == 3 and mask.shape[-1] in (1, 2, 3, 4):
        mask = mask[..., : 1 if mask.shape[-1] in (1, 2) else 3].max(-1, initial=0)
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(f"{name}: expected a mask of shape (H, W) or with 1 to 4 channels, got {mask.shape}.")
    if mask.dtype.kind not in "buif" or (mask.dtype.kind == "f" and not np.isfinite(mask).all()):
        raise ValueError(f"{name}: expected a mask of finite numbers, got {mask.dtype} with other values.")
    cut = mask > mask.max() / 2 if lossy else mask > 0
    count = 2 if mask.dtype == bool else len(np.unique(mask))
    if count <= 2:
        return cut, None
    where = "at half of the highest, since it is compressed with losses" if lossy else "above 0"
    return cut, f"the mask has {count} values where two are expected; it is cut {where}"


def mask_values(image: Image.Image) -> np.ndarray:
    """What the pixels of a mask or map say, (H, W) or (H, W, C), upright."""
    white_zero = is_white_zero(image)
    if isinstance(image, ImageFile.ImageFile) and image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "P" and is_grey_palette(image):
        image = image.convert("L")
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        image = image.convert("RGB")
    values = np.asarray(image)
    if not white_zero:
        return values
    return (1 if image.mode == "F" else 65535) - values


def is_grey_palette(image: Image.Image) -> bool:
    """Whether a palette holds the greys of a picture, and not colours or one grey for numbers."""
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = np.unique(np.asarray(image))
    used = used[used < len(colours)]
    greys = colours[used]
    return bool((greys == greys[:, :1]).all()) and len(np.unique(greys[:, 0])) == len(used)


def resized_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """A mask of booleans (H, W) as float32 (height, width) of 0 and 1: 0/255, bilinear, above one half."""
    resized = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    return (np.asarray(resized) / 255 > 0.5).astype(np.float32)


__all__ = ["ImageWarning", "load_image", "load_mask"]
