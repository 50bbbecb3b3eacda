"""Opens image files and brings them to 8-bit RGB, with Pillow and NumPy alone: an export has a copy of this file."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

try:
    from .image_structure import excess
except ImportError:  # beside an export's program, where there is no package
    from image_structure import excess  # type: ignore[no-redef]

# the one list of formats that are opened: those that hold pictures, not data, video, documents, icons or programs
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP")
OF_JPEG = "MPO"  # what Pillow calls a JPEG with more pictures behind the first
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
MIN_SIDE = 8
MAX_ASPECT_RATIO = 100
LARGEST_PREVIEW = 0.5  # of a picture's sides; what is larger behind it is a picture of its own
STRIP = 2**20  # values that are converted at a time
BIT_DEPTHS = range(8, 17)
USUAL_DEPTHS = (8, 10, 12, 14)
ORIENTATION, BITS, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 0x0112, 258, 262, 284, 339
SUBFILE, OLD_SUBFILE, LARGEST_SAMPLE, LARGEST_SIGNED = 254, 255, 281, 341


class ImageWarning(UserWarning):
    """Something about the images of a folder, which are scored nevertheless; told once."""


class UnfitImageError(ValueError):
    """A file that is an image, but none that is scored; names it."""


@cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow opens."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_picture(file: Path | BinaryIO, name: str) -> Image.Image:
    """Opens a file that holds one picture; its pixels are decoded later. Everything opens files by this function.

    Args:
        file: a path or a binary file.
        name: for errors.

    Raises:
        ValueError: no format of `FORMATS`, several pages or frames, or pixels that Pillow would misread.
    """
    try:
        require_few_parts(file, name)
        image = Image.open(file, formats=formats())
        require_one_picture(image, name)
    except UnfitImageError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} cannot be opened as an image: {unknown(file)}.") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: {error}; --megapixels, or PIL.Image.MAX_IMAGE_PIXELS, allows more.") from error
    except Exception as error:
        raise ValueError(f"{name} cannot be opened as an image: {reason(error)}.") from error
    require_understood(image, name)
    return image


def require_few_parts(file: Path | BinaryIO, name: str):
    """Refuses a file that would take minutes or gigabytes though its picture is small."""
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
        too_much = excess(opened)
        opened.seek(0)
    if too_much:
        raise UnfitImageError(f"{name} holds {too_much}, which no camera writes; save the picture anew.")


def reason(error: Exception) -> str:
    """What went wrong, in words, also where the error has none."""
    return "there is not enough memory" if isinstance(error, MemoryError) else str(error).rstrip(".") or repr(error)


def unknown(file: Path | BinaryIO) -> str:
    """Why a file is in no format that is read."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            start = opened.read(12)
    else:
        file.seek(0)
        start = file.read(12)
    if start[4:8] == b"ftyp" and start[8:12] in HEIC:
        return "it is HEIC, which Pillow does not read; convert it to JPEG or PNG"
    return f"not an image format that is read here ({', '.join(formats())})"


def require_picture(image: Image.Image, name: str):
    """Refuses an image in memory that was opened from a file of another format, or of several pictures."""
    if image.format is not None and isinstance(image, ImageFile.ImageFile):
        if image.format not in (*formats(), OF_JPEG):
            raise UnfitImageError(f"{name} is in the format {image.format}; read here are {', '.join(formats())}.")
        if image.tell() == 0:  # a page that was turned to is meant
            require_one_picture(image, name)
        require_understood(image, name)


def require_one_picture(image: Image.Image, name: str):
    """Refuses several pages or frames: a defect on the second one would be called normal.

    Pages that a TIFF marks as reduced copies or masks are none, nor are previews and gain maps behind a phone's JPEG.
    """
    frames = getattr(image, "n_frames", 1)
    if frames < 2:
        return
    if image.format == "TIFF":
        count = 1 + sum(not is_reduced_page(image) for _ in further(image, frames))
    elif image.format == OF_JPEG:
        count = 1 + sum(1 for _ in pictures_behind(image, frames))
        if count == 1:
            warn(name, "JPEGs hold a preview or gain map behind the picture; the picture alone is scored")
    else:
        count = frames
    if count > 1:
        kind = "pages" if image.format == "TIFF" else "frames"
        raise UnfitImageError(f"{name} holds {count} {kind}; expected one picture: save each as a file of its own.")


def further(image: Image.Image, frames: int) -> Iterator[int]:
    """Turns to each frame after the first, and back to the first at the end."""
    try:
        for number in range(1, frames):
            image.seek(number)
            yield number
    finally:
        image.seek(0)


def is_reduced_page(image) -> bool:
    """Whether the page of a TIFF is a thumbnail, a smaller copy or a mask of another one."""
    return bool(image.tag_v2.get(SUBFILE, 0) & 0b101) or image.tag_v2.get(OLD_SUBFILE, 1) == 2


def pictures_behind(image, frames: int) -> Iterator[int]:
    """The frames behind the first of a JPEG that are pictures of their own: said to be, or about as large."""
    width, height = image.size
    kinds = [entry["Attribute"]["MPType"] for entry in image.mpinfo[0xB002]]
    for number in range(1, frames):
        try:
            image.seek(number)
        except (OSError, ValueError, SyntaxError):  # cut off, as by programs that know nothing of it
            continue
        own = str(kinds[number]).startswith("Multi-Frame")
        thumbnail = "Thumbnail" in str(kinds[number])
        as_large = image.size[0] > LARGEST_PREVIEW * width and image.size[1] > LARGEST_PREVIEW * height
        if own or (as_large and not thumbnail):
            yield number
    image.seek(0)


def require_understood(image: Image.Image, name: str):
    """Refuses TIFFs that Pillow decodes to other values than they hold."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    bits, signed = max(tags.get(BITS, (1,))), 2 in tags.get(SAMPLE_FORMAT, (1,))
    floats = 3 in tags.get(SAMPLE_FORMAT, (1,))
    compressed = any(tile[0] == "libtiff" for tile in image.tile)
    problem = None
    if signed and (bits <= 8 or tags.get(PHOTOMETRIC) == 0):
        problem = "pixels that are signed numbers; save it with unsigned ones"
    elif tags.get(PLANES, 1) == 2 and len(tags.get(BITS, (1,))) > 1 and bits > 8 and not compressed:
        problem = f"{bits}-bit colours plane by plane; save it interleaved, or compressed"
    elif compressed and tags.prefix == b"MM" and (bits > 16 or (bits > 8 and (signed or floats))):
        problem = f"compressed {bits}-bit numbers in big-endian order; save it little-endian, or uncompressed"
    if problem:
        raise UnfitImageError(f"{name} holds {problem}, since Pillow misreads that.")


def is_white_zero(image: Image.Image) -> bool:
    """Whether 0 is white in the file, and still is after decoding: Pillow turns only whole numbers up to 8 bits."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    return image.tag_v2.get(PHOTOMETRIC) == 0 and image.mode.startswith(("I", "F"))


def rgb_of(image: Image.Image, name: str, bit_depth: int | None = None) -> Image.Image:
    """An upright 8-bit RGB image; an RGB image is not copied, because it may be large.

    Args:
        bit_depth: the bits that whole numbers of more than 8 bits use, 8 to 16; by default what the file says, or 16.

    Raises:
        ValueError: values out of range, not finite, or that do not fit in the bit depth.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        warn(name, "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set: what is missing of damaged images is scored as grey")
    white_zero, depth, upper_bytes = is_white_zero(image), bit_depth or depth_in_file(image), keeps_upper_bytes(image)
    if upper_bytes and bit_depth not in (None, 16):
        raise ValueError(
            f"it holds 16-bit colours, of which Pillow keeps the upper 8 bits; a bit depth of {bit_depth} is for greys"
        )
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    image = to_rgb(image, name, depth, white_zero)
    if upper_bytes and bit_depth is None:
        tell_unused_bits(name, image_peak(image) * 256 + 255)
    return image


def to_rgb(image: Image.Image, name: str, depth: int | None, white_zero: bool) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"integer pixels range from {values.min()} to {values.max()}, expected 0 to 65535")
        image = Image.fromarray(eight_bits(values, name, depth, white_zero))
    elif image.mode == "F":
        values = np.asarray(image)
        image = Image.fromarray(eight_bits_of_floats(1 - values if white_zero else values))
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    elif image.mode in ("P", "PA"):
        # straight from a palette with transparency Pillow warns; by way of RGBA the colours are the same
        image = image.convert("RGBA")
    if image.mode != "RGB":
        return image.convert("RGB")
    image.load()
    return image if type(image) is Image.Image else image._new(image.im)  # without file and tags, and not copied


def depth_in_file(image: Image.Image) -> int | None:
    """How many bits of 16 the values of a file use, where it says so, or where Pillow has spread them over all 16."""
    if not isinstance(image, ImageFile.ImageFile) or not image.mode.startswith("I"):
        return None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(BITS, (16,))[0]
        stated = image.tag_v2.get(LARGEST_SAMPLE, image.tag_v2.get(LARGEST_SIGNED))
        largest = stated[0] if isinstance(stated, tuple) else stated
        stated_bits = [bits for bits in BIT_DEPTHS if largest == 2**bits - 1]
        return bits if bits in range(9, 16) else stated_bits[0] if stated_bits else None
    if image.format == "PNG":
        return significant_bits(image)
    scaled = image.format == "JPEG2000" or (image.format == "PPM" and image.tile and image.tile[0][0] != "raw")
    return 16 if scaled else None


def significant_bits(image) -> int | None:
    """What a grey PNG's `sBIT` says. Values above it were spread over all 16 bits, as the standard has it."""
    bits = None if image.fp is None else stated_by_png(image.fp)
    if bits is None or bits not in BIT_DEPTHS:
        return None
    return bits if np.asarray(image).max() < 2**bits else 16


def stated_by_png(file: BinaryIO) -> int | None:
    """The value of the chunk `sBIT` of one byte, which stands before the pixels."""
    place = file.tell()
    file.seek(8)
    try:
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"sBIT" and length == 1:
                return file.read(1)[0]
            file.seek(length + 4, os.SEEK_CUR)
    finally:
        file.seek(place)
    return None


def keeps_upper_bytes(image: Image.Image) -> bool:
    """Whether a file holds 16 bits a colour, of which Pillow reads the upper 8."""
    if not isinstance(image, ImageFile.ImageFile) or image.mode.startswith("I"):
        return False
    for codec, _, _, arguments in image.tile:
        words = arguments if isinstance(arguments, tuple) else (arguments,)
        if codec == "SGI16" or any(isinstance(word, str) and ";16" in word for word in words):
            return True
    return False


def image_peak(image: Image.Image) -> int:
    """The highest value of an RGB image."""
    return int(np.max(image.getextrema()))


def eight_bits(values: np.ndarray, name: str, depth: int | None, white_zero: bool = False) -> np.ndarray:
    """Whole numbers of up to 16 bits as uint8, 2**depth - 1 being white.

    Raises:
        ValueError: values that do not fit.
    """
    highest = int(values.max())
    if depth is None:
        tell_unused_bits(name, highest)
    depth = depth or 16
    if highest >= 2**depth:
        raise ValueError(f"its values go up to {highest}, more than a bit depth of {depth} holds")
    levels = eight_bit_levels(depth)
    return by_strips(values, (levels[::-1] if white_zero else levels).__getitem__)


@cache
def eight_bit_levels(depth: int) -> np.ndarray:
    """For each value of so many bits its 8 bits."""
    return np.round(np.arange(2**depth) / ((2**depth - 1) / 255)).astype(np.uint8)


def eight_bits_of_floats(values: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as uint8.

    Raises:
        ValueError: values that are not finite, or out of range.
    """
    low, high = float(values.min()), float(values.max())  # NaN, if one value is
    if not np.isfinite([low, high]).all():
        raise ValueError("The image holds values that are not finite (NaN or infinity); expected floats in [0, 1].")
    if low < 0 or high > 1:
        raise ValueError(f"Floats range from {low:.4g} to {high:.4g}; expected [0, 1], not normalised.")
    return by_strips(values, lambda strip: np.round(strip * 255).astype(np.uint8))


def by_strips(values: np.ndarray, convert: Callable[[np.ndarray], np.ndarray], dtype: type = np.uint8) -> np.ndarray:
    """Values of an image as others, some rows at a time, so that a large one is not in memory several times."""
    converted: np.ndarray = np.empty(values.shape, dtype)
    for rows in strips(len(values), values[0].size):
        converted[rows] = convert(values[rows])
    return converted


def strips(height: int, width: int) -> Iterator[slice]:
    """The rows of an image, some at a time."""
    rows = max(1, STRIP // max(1, width))
    return (slice(first, min(first + rows, height)) for first in range(0, height, rows))


def tell_unused_bits(name: str, highest: int):
    """Says that a 16-bit image uses the lowest bits alone, so that it comes out without contrast."""
    depth = next((bits for bits in USUAL_DEPTHS if highest < 2**bits), None)
    if depth is not None:
        warn(
            name,
            f"16-bit files use 0..{2**depth - 1} of 0..65535, so that little is seen in them; give the camera's bits "
            f"(--bit-depth {depth}, View(bit_depth={depth}))",
        )


def warn(name: str, about: str):
    """Warns about a file's folder; Python shows the same text once."""
    folder = str(Path(name).parent) if os.sep in name or Path(name).suffix else "images in memory"
    warnings.warn(f"{folder}: {about}", ImageWarning, stacklevel=2)


def check_size(image: Image.Image, name: str):
    """An image must hold something to inspect, and survive being resized to a square."""
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise ValueError(f"{name} has {width}x{height} pixels; expected at least {MIN_SIDE} on each side.")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(
            f"{name} has {width}x{height} pixels, a ratio over {MAX_ASPECT_RATIO}:1; cut it into pieces first."
        )


def read_rgb(path: str | Path) -> Image.Image:
    """The image of a file, checked: upright, 8-bit RGB.

    Raises:
        OSError, ValueError: it cannot be read; names the file.
    """
    name = str(path)
    image = open_picture(Path(path), name)
    try:
        image = rgb_of(image, name)
    except Exception as error:
        raise ValueError(f"{name} cannot be decoded as an image: {reason(error)}.") from error
    check_size(image, name)
    return image
