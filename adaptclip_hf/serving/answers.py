"""Answers for images, and how they are sent."""

import asyncio
from dataclasses import replace

from fastapi import Response
from pydantic import BaseModel, Field

from ..engine import DetectionResult
from ..engine.heatmap import image_base64, map_image
from .limits import MEGA
from .memory import Traffic
from .products import Product
from .uploads import MAP, OVERLAY, Photo

QUICK_PNG: dict = {"file_format": "PNG", "compress_level": 1}
SLICE = 65536  # bytes that are sent at a time
PATIENCE, SLOWEST = 30.0, MEGA / 20  # seconds, and bytes a second, in which a client must read its answer


class Inspection(BaseModel):
    """The answer for an image."""

    product: str | None = Field(description="the product whose profile decided")
    score: float = Field(description="from 0, normal, to 1")
    p_value: float | None = Field(description="how often a good photo scores this high or higher")
    label: str | None = Field(
        description="normal, anomalous or not inspectable, which is neither; null without a product"
    )
    reason: str | None = Field(
        description="why it is anomalous (score, area or zone NAME), or not inspectable (too dark, empty, blurred, "
        "unlike the product)"
    )
    regions: list[dict] | None = Field(
        description="box, polygon, area, share, peak, mean, significant; in pixels; area_mm2 where the scale is known"
    )
    width: int
    height: int
    among_normals: bool = Field(description="it is itself one of the product's photos: its score says nothing")
    map: str | None = Field(None, description="where asked for: a 16-bit grey PNG in base64, 65535 is 1")
    overlay: str | None = Field(None, description="where asked for: the map over the image, a PNG in base64")


def inspected(product: Product | None, photo: Photo, result: DetectionResult, include: tuple[str, ...]) -> Inspection:
    """A result, not decided yet, as an answer."""
    if product is not None:
        result = product.profile.decide(replace(result, image=None))
    height, width = result.size
    return Inspection(
        product=None if product is None else product.name,
        score=result.score,
        p_value=result.p_value,
        label=result.label,
        reason=result.reason,
        regions=result.regions,
        width=width,
        height=height,
        among_normals=result.among_normals or photo.own,
        map=image_base64(map_image(result.anomaly_map), **QUICK_PNG) if MAP in include else None,
        overlay=image_base64(result.heatmap(photo.shown), **QUICK_PNG) if OVERLAY in include else None,
    )


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
