"""Reads requests to `/detect`: an image as bytes, its product, and the pictures to return."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from PIL import Image
from python_multipart.multipart import parse_options_header

from ..engine import Reference
from ..engine.images import ImageReader, LoadedImage
from ..engine.result import LARGEST_SEARCHED
from ..inspection import InspectionProfile
from ..inspection.photos import pixel_digest
from ..processing.image_loading import content_of_text
from ..processing.image_opening import open_picture
from .limits import MEGA, RefusedError

MAP, OVERLAY = "map", "overlay"
PICTURES = (MAP, OVERLAY)
MULTIPART, JSON = "multipart/form-data", "application/json"
MOST_PARTS, MOST_HEADERS = 11, 8  # of a form; of a part
# bytes a pixel at most: while an image is decoded (WebP takes most), while its regions are found, a PNG of its map is
# made, and its overlay is drawn
DECODING, DECIDING, MAPPING, DRAWING = 16, 26, 26, 32


def fields(image: dict) -> dict:
    """A request's fields, as OpenAPI has them."""
    properties = {
        "image": {"type": "string", **image},
        "product": {"type": "string", "description": "needed where there are several"},
        "include": {"type": "array", "items": {"enum": list(PICTURES)}},
    }
    return {"schema": {"type": "object", "required": ["image"], "properties": properties}}


BODY = {
    "required": True,
    "content": {
        MULTIPART: fields({"format": "binary", "description": "an image file"}),
        JSON: fields({"format": "byte", "description": "an image file in base64, or a data URL"}),
    },
}
PROFILE_BODY = {
    "required": True,
    "content": {
        MULTIPART: {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "profile.json, the features that it names, and SHA256SUMS if there is one",
                    }
                },
            }
        }
    },
}


@dataclass(frozen=True)
class Upload:
    """One request.

    Attributes:
        image: an image file's bytes.
        product: the name of its product; `None` if the request has none.
        include: pictures to return.
    """

    image: bytes
    product: str | None
    include: tuple[str, ...]


@dataclass(frozen=True)
class Photo:
    """The image of an upload.

    Attributes:
        loaded: ready for the model; its pixels are kept only where tiles are cut of them.
        shown: its pixels, where an overlay is asked for.
        own: it is one of the profile's photos.
    """

    loaded: LoadedImage
    shown: Image.Image | None
    own: bool


def read_upload(kind: str, body: bytes) -> Upload:
    """Reads a request of either content type.

    Args:
        kind: the content type.

    Raises:
        RefusedError: 415 for another type, 400 for a form that is damaged, 422 for a field that is missing or wrong,
            with its name.
    """
    name = kind.partition(";")[0].strip().lower()
    if name == MULTIPART:
        return from_form(kind, body)
    if name == JSON:
        return from_json(body)
    raise RefusedError(415, f"Expected {MULTIPART} or {JSON}, got {name[:80] or 'no content type'}.")


def from_form(kind: str, body: bytes) -> Upload:
    images, texts = [], []
    for options, content in parts_of(kind, body):
        if b"filename" in options and options.get(b"name") == b"image":
            images.append(content)
        elif b"filename" not in options:
            texts.append((options.get(b"name"), content.decode(errors="replace")))
    if len(images) != 1:
        raise RefusedError(422, f"image: expected one file of this name, got {len(images)}.")
    products = [text for name, text in texts if name == b"product"]
    include = [text for name, text in texts if name == b"include"]
    return checked(images[0], products[-1] if products else None, include)


def parts_of(kind: str, body: bytes) -> Iterator[tuple[dict[bytes, bytes], bytes]]:
    """The parts of a form (RFC 7578): what Content-Disposition says of each, and its content.

    The whole form is in memory, so that splitting it takes no time worth mentioning, whatever it holds.
    """
    boundary = parse_options_header(kind)[1].get(b"boundary")
    if not boundary:
        raise RefusedError(400, "The form is damaged: its content type has no boundary.")
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary, MOST_PARTS + 1)
    if not parts or not parts[-1].startswith(b"--"):
        raise RefusedError(400, f"The form is damaged: expected at most {MOST_PARTS} parts, and an end after them.")
    for part in parts[:-1]:
        about, _, content = part.partition(b"\r\n\r\n")
        headers = [line.partition(b":") for line in about.split(b"\r\n", MOST_HEADERS)]
        said = [value for name, _, value in headers if name.strip().lower() == b"content-disposition"]
        yield parse_options_header(said[0].strip() if said else None)[1], content


def from_json(body: bytes) -> Upload:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(422, "The body is not JSON.") from None
    if not isinstance(content, dict) or not isinstance(content.get("image"), str):
        raise RefusedError(422, "image: expected a text of this name, an image file in base64.")
    return checked(from_text(content["image"]), content.get("product"), content.get("include") or [])


def from_text(text: str) -> bytes:
    """The file of a text in base64 or of a data URL, read as `load_image` reads them; no path and no other URL."""
    try:
        return content_of_text(text)
    except ValueError as error:
        raise RefusedError(422, f"image: not base64 ({error.__cause__ or error}).") from None


def checked(image: bytes, product, include) -> Upload:
    if product is not None and not isinstance(product, str):
        raise RefusedError(422, "product: expected a text.")
    if not isinstance(include, list) or not all(each in PICTURES for each in include):
        raise RefusedError(422, f"include: expected some of {', '.join(PICTURES)}.")
    return Upload(image, product or None, tuple(include))


def memory_for(upload: Upload, decided: bool, pixels: int) -> int:
    """How many bytes the work on an upload takes at most, by what its header says.

    Args:
        decided: a profile decides.
        pixels: the limit.

    Raises:
        RefusedError: 422 and the reason why it cannot be read.
    """
    width, height = opened(upload.image).size
    if width * height > pixels:
        raise RefusedError(422, f"image: {width}x{height} pixels; the limit is {pixels / MEGA:g} million.")
    deciding = DECIDING * min(width * height, LARGEST_SEARCHED) if decided else 0
    drawing = [(MAPPING, MAP), (DRAWING, OVERLAY)]
    a_pixel = [DECODING, *(each for each, picture in drawing if picture in upload.include)]
    return max(deciding, max(a_pixel) * width * height)


def read_photo(reader: ImageReader, upload: Upload, reference: Reference) -> Photo:
    """The image of an upload, decoded, cut and ready for the model.

    Raises:
        RefusedError: 422 and the reason why it cannot be read.
    """
    try:
        with opened(upload.image) as image:
            [loaded] = reader.read_ready([image], reference.view)  # without `on_error` what cannot be read is raised
        assert isinstance(loaded, LoadedImage)
    except (RefusedError, MemoryError):
        raise
    except Exception as error:
        raise RefusedError(422, f"image: {error}") from None
    own = isinstance(reference, InspectionProfile) and pixel_digest(loaded.image) in reference.known
    shown = loaded.image if OVERLAY in upload.include else None
    if loaded.pixel_values is not None:  # nothing more is cut of its pixels
        loaded = replace(loaded, image=Image.new("RGB", (1, 1)))
    return Photo(loaded, shown, own)


def opened(image: bytes) -> Image.Image:
    """An image file, not decoded yet.

    Raises:
        RefusedError: 422, it is none.
    """
    try:
        return open_picture(io.BytesIO(image), f"image: {len(image)} bytes")
    except ValueError as error:
        raise RefusedError(422, str(error)) from None
