"""Answers for images, and how they are sent."""

import asyncio
from dataclasses import replace
from typing import Any, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from ..engine import DetectionResult
from ..engine.heatmap import QUICK, image_base64, map_image
from .limits import MEGA
from .memory import Traffic
from .products import Product
from .uploads import MAP, OVERLAY, Photo

QUICK_PNG: dict = {"file_format": "PNG", **QUICK}
SLICE = 65536  # bytes that are sent at a time
PATIENCE, SLOWEST = 30.0, MEGA / 20  # seconds, and bytes a second, in which a client must read its answer


class FoundRegion(BaseModel):
    """A part of the image that is higher in the map than good photos' maps; in the image's own pixels."""

    model_config = ConfigDict(extra="allow")  # what a profile adds is answered too

    box: list[int] = Field(description="x, y, width, height", min_length=4, max_length=4)
    polygon: list[list[float]] = Field(description="its outline, [x, y] each")
    area: int = Field(description="pixels")
    share: float = Field(description="of the image")
    peak: float = Field(description="of the map, highest")
    mean: float = Field(description="of the map")
    significant: bool = Field(description="false: nothing lies so high, and this is the highest place")


class Inspection(BaseModel):
    """The answer for an image."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "product": "bottle",
                    "score": 0.412,
                    "p_value": 0.024,
                    "margin": 1.31,
                    "profile": "5f1c" * 16,
                    "label": "anomalous",
                    "reason": "score",
                    "regions": [
                        {
                            "box": [186, 167, 40, 31],
                            "polygon": [[186.5, 170.0], [220.1, 167.2], [225.8, 190.4], [190.0, 197.6]],
                            "area": 961,
                            "share": 0.0036,
                            "peak": 0.61,
                            "mean": 0.44,
                            "significant": True,
                        }
                    ],
                    "width": 518,
                    "height": 518,
                    "among_normals": False,
                    "dtype": "float32",
                    "map": None,
                    "overlay": None,
                }
            ]
        }
    )

    product: str | None = Field(description="the product whose profile decided")
    score: float = Field(description="from 0, normal, to 1")
    p_value: float | None = Field(description="how often a good photo scores this high or higher")
    margin: float | None = Field(description="the score over the profile's threshold")
    profile: str | None = Field(description="the digest of the profile that decided")
    label: str | None = Field(
        description="normal, anomalous or not inspectable, which is neither; null without a product"
    )
    reason: str | None = Field(
        description="why it is anomalous (score, area or zone NAME), or not inspectable (too dark, empty, blurred, "
        "unlike the product)"
    )
    regions: list[FoundRegion] | None = Field(description="the highest first; null without a product")
    width: int
    height: int
    among_normals: bool = Field(description="it is itself one of the product's photos: its score says nothing")
    dtype: str = Field(description="what the score was computed in: float32, bfloat16, ..., or int8 of an export")
    map: str | None = Field(None, description="where asked for: a 16-bit grey PNG in base64, 65535 is 1")
    overlay: str | None = Field(None, description="where asked for: the map over the image, a PNG in base64")


def inspected(
    product: Product | None, photo: Photo, result: DetectionResult, include: tuple[str, ...], dtype: str
) -> Inspection:
    """A result, not decided yet, as an answer.

    Args:
        dtype: of [`AnomalyScorer.dtype`].
    """
    if product is not None:
        result = product.profile.decide(replace(result, image=None))
    height, width = result.size
    return Inspection(
        product=None if product is None else product.name,
        score=result.score,
        p_value=result.p_value,
        margin=result.margin,
        profile=None if product is None else product.digest,
        label=result.label,
        reason=result.reason,
        regions=None if result.regions is None else [FoundRegion(**region) for region in result.regions],
        width=width,
        height=height,
        among_normals=result.among_normals or photo.own,
        dtype=dtype,
        map=image_base64(map_image(result.anomaly_map), **QUICK_PNG) if MAP in include else None,
        overlay=image_base64(result.heatmap(photo.shown), **QUICK_PNG) if OVERLAY in include else None,
    )


class Health(BaseModel):
    """Whether the service answers."""

    status: Literal["ok"]
    version: str
    backend: str = Field(description="the runtime: torch, onnx or openvino")
    dtype: str = Field(description="what all images are scored in: float32, bfloat16, ..., or int8 of an export")
    products: int
    skipped: int = Field(description="products that cannot be opened, and what is none in their folder")


class ProductContent(BaseModel):
    """A product, and what its profile promises."""

    name: str
    digest: str = Field(description="of all that its decisions depend on")
    model: str
    dtype: str = Field(description="what its profile was made in; images are scored in that of /health")
    object_name: str | None
    good_photos: int
    threshold: float
    false_alarm_rate: float
    summary: str


class About(BaseModel):
    """What answers here."""

    service: Literal["adaptclip serve"]
    version: str
    about: str
    products: list[str]
    detect: str
    health: str
    documentation: str


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str


# status -> when it comes, and an example
REFUSALS = {
    400: ("the form is damaged", "The form is damaged."),
    401: ("the token is missing or wrong", "A valid token is needed."),
    403: (
        "nobody may change products",
        "Products cannot be changed here: the service was started without an admin token.",
    ),
    404: ("there is no such product", "There is no product 'bottle'."),
    408: (
        "the body came too slowly",
        "The body did not come in time: expected all of it within 30 s, and at 1 kB/s from 10 s on.",
    ),
    413: ("the body is too long", "The body is longer than 20 MB, the limit of this service."),
    415: ("the body is of another type", "Expected multipart/form-data or application/json, got text/plain."),
    422: ("a field is missing or wrong, or the image cannot be read", "product: there is no 'botle', there is bottle."),
    500: ("the service failed", "The service failed at this request: its log says why."),
    503: (
        "too much is asked at once: try again",
        "128 images are being scored, the most that this service takes: try again.",
    ),
    507: ("the disk is full", "Nothing could be stored, the disk is full: No space left on device."),
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals that a route documents."""
    return {
        status: {
            "model": Refusal,
            "description": REFUSALS[status][0],
            "content": {"application/json": {"example": {"detail": REFUSALS[status][1]}}},
        }
        for status in statuses
    }


class Answer(Response):
    """An answer in JSON. It is counted until it is read; a client that does not read it is cut off."""

    media_type = "application/json"

    def __init__(self, content: bytes, traffic: Traffic):
        super().__init__(content)
        self._traffic = traffic

    async def __call__(self, scope, receive, send):
        size = len(self.body)
        with self._traffic.answer(size):
            try:
                async with asyncio.timeout(PATIENCE + size / SLOWEST):
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    for begin in range(0, size, SLICE):
                        part = self.body[begin : begin + SLICE]
                        await send({"type": "http.response.body", "body": part, "more_body": begin + SLICE < size})
            except TimeoutError:
                scope["state"]["connection"].abort()
                await asyncio.sleep(0)  # until the server has seen the end
