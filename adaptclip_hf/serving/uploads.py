"""Reads requests to `/detect`: an image as bytes, its product, and the pictures to return."""

import base64
import binascii
import io
import json
from dataclasses import dataclass

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from ..engine import View
from ..engine.images import ImageReader, LoadedImage
from ..image_files import FORMATS
from .limits import MEGA, RefusedError

MAP, OVERLAY = "map", "overlay"
PICTURES = (MAP, OVERLAY)
MULTIPART, JSON = "multipart/form-data", "application/json"


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
        JSON: fields({"format": "byte", "description": "an image file in base64"}),
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


async def read_upload(request: Request) -> Upload:
    """Reads a request of either content type.

    Raises:
        RefusedError: 415 for another type, 422 for a field that is missing or wrong, with its name.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == MULTIPART:
        async with request.form(max_files=1, max_fields=10) as form:
            image = form.get("image")
            if not isinstance(image, UploadFile):
                raise RefusedError(422, "image: expected a file of this name.")
            return checked(await image.read(), form.get("product"), form.getlist("include"))
    if kind == JSON:
        return await run_in_threadpool(from_json, await request.body())
    raise RefusedError(415, f"Expected {MULTIPART} or {JSON}, got {kind[:80] or 'no content type'}.")


def from_json(body: bytes) -> Upload:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(422, "The body is not JSON.") from None
    if not isinstance(content, dict) or not isinstance(content.get("image"), str):
        raise RefusedError(422, "image: expected a text of this name, an image file in base64.")
    try:
        image = base64.b64decode(content["image"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(422, f"image: not base64 ({error}).") from None
    return checked(image, content.get("product"), content.get("include") or [])


def checked(image: bytes, product, include) -> Upload:
    if product is not None and not isinstance(product, str):
        raise RefusedError(422, "product: expected a text.")
    if not isinstance(include, list) or not all(each in PICTURES for each in include):
        raise RefusedError(422, f"include: expected some of {', '.join(PICTURES)}.")
    return Upload(image, product or None, tuple(include))


def read_image(reader: ImageReader, image: bytes, view: View, pixels: int) -> LoadedImage:
    """The image of an upload, decoded, cut and ready for the model.

    Args:
        pixels: the limit; an image whose header says more is not decoded.

    Raises:
        RefusedError: 422 and the reason why it cannot be read.
    """
    try:
        opened = Image.open(io.BytesIO(image), formats=FORMATS)
        width, height = opened.size
        if width * height > pixels:
            raise RefusedError(422, f"image: {width}x{height} pixels; the limit is {pixels / MEGA:g} million.")
        [loaded] = reader.read_ready([opened], view)  # without `on_error` what cannot be read is raised
        assert isinstance(loaded, LoadedImage)
    except RefusedError:
        raise
    except Image.UnidentifiedImageError:
        raise RefusedError(
            422, f"image: {len(image)} bytes, not in a format that is read here ({', '.join(FORMATS)})."
        ) from None
    except Exception as error:
        raise RefusedError(422, f"image: {error}") from None
    return loaded
