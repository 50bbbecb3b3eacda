"""The service: its routes."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from ..detector import AnomalyDetector
from ..engine import DetectionResult, PlainReference
from ..engine.heatmap import image_base64, map_image
from ..versions import __version__
from .batches import Batches, default_batch_size, default_workers
from .limits import BodyLimit, Limits, RefusedError, same
from .monitoring import Monitor
from .products import Product, Products
from .uploads import BODY, MAP, OVERLAY, read_image, read_upload

DECODING_THREADS = 2
QUICK_PNG: dict = {"file_format": "PNG", "compress_level": 1}


@dataclass(frozen=True)
class ServiceSettings:
    """How a service runs.

    Attributes:
        workers: threads that score; by default as suits the device.
        batch_size: at most this many images are scored together; by default as suits the device.
        limits: of requests.
        token: every request except `/health` needs it; `None` lets everyone in.
        admin_token: needed to add, replace and remove products; `None` forbids that.
    """

    workers: int | None = None
    batch_size: int | None = None
    limits: Limits = field(default_factory=Limits)
    token: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)


class Inspection(BaseModel):
    """The answer for an image."""

    product: str | None = Field(description="the product whose profile decided")
    score: float = Field(description="from 0, normal, to 1")
    p_value: float | None = Field(description="how often a good photo scores this high or higher")
    label: str | None = Field(description="normal or anomalous; null without a product")
    regions: list[dict] | None = Field(description="box, polygon, area, share, peak, mean, significant; in pixels")
    width: int
    height: int
    among_normals: bool = Field(description="it is itself one of the product's photos: its score says nothing")
    map: str | None = Field(None, description="where asked for: a 16-bit grey PNG in base64, 65535 is 1")
    overlay: str | None = Field(None, description="where asked for: the map over the image, a PNG in base64")


def make_app(detector: AnomalyDetector, products: Products, settings: ServiceSettings = ServiceSettings()) -> FastAPI:
    """The service as an ASGI application; its page is `/docs`.

    Args:
        products: their profiles decide; without products images are scored zero-shot.
    """
    limits = settings.limits
    monitor = Monitor(lambda: len(batches))
    workers = settings.workers or default_workers(detector)
    batch_size = settings.batch_size or default_batch_size(detector)
    batches = Batches(detector, workers, batch_size, monitor.batches.observe)
    decoding = CapacityLimiter(DECODING_THREADS)
    zero_shot = detector.prepare(PlainReference())
    in_work = 0

    @asynccontextmanager
    async def lifespan(_):
        yield
        await to_thread.run_sync(batches.close)

    app = FastAPIOffline(title="adaptclip serve", version=__version__, lifespan=lifespan)
    app.add_middleware(BodyLimit, limits=limits)
    user, admin = needs_token(settings.token), needs_token(settings.admin_token, or_forbidden=True)

    @app.exception_handler(RefusedError)
    async def refused(_, error: RefusedError) -> JSONResponse:
        return refusal(error.status, error.reason)

    @app.exception_handler(HTTPException)
    async def http_error(_, error: HTTPException) -> JSONResponse:
        return refusal(error.status_code, error.detail, error.headers)

    @app.exception_handler(Exception)
    async def failed(_, error: Exception) -> JSONResponse:
        return refusal(500, "The image could not be scored: the log says why.")

    def refusal(status: int, reason: str, headers=None) -> JSONResponse:
        monitor.refused.labels(str(status)).inc()
        more = {"retry-after": "1"} if status == 503 else {}
        return JSONResponse({"detail": reason}, status, {**(headers or {}), **more})

    @contextmanager
    def admitted() -> Iterator[None]:
        nonlocal in_work
        if in_work >= limits.waiting:
            raise RefusedError(503, f"{in_work} images are being scored, the most that this service takes: try again.")
        in_work += 1
        try:
            yield
        finally:
            in_work -= 1

    def product_of(name: str | None) -> Product | None:
        if name is None and len(products) <= 1:
            return next(iter(products.values()), None)
        if name is None:
            raise RefusedError(422, f"product: one is needed, there are {', '.join(products)}.")
        try:
            return products[name]
        except KeyError:
            known = ", ".join(products) or "none"
            raise RefusedError(422, f"product: there is no {name[:80]!r}, there is {known}.") from None

    @app.post("/detect", dependencies=[user], openapi_extra={"requestBody": BODY})
    async def detect(request: Request) -> Inspection:
        """Scores an image, and decides by a product's profile."""
        begun = time.perf_counter()
        with admitted():
            upload = await read_upload(request)
            product = product_of(upload.product)
            reference = zero_shot if product is None else product.reference
            image = await to_thread.run_sync(
                read_image, detector.reader, upload.image, reference.reference.view, limits.pixels, limiter=decoding
            )
            try:
                result = await asyncio.wrap_future(batches.submit(image, reference))
            except ValueError as error:  # such as an image whose tiles lie elsewhere than the product's
                raise RefusedError(422, f"image: {error}") from None
            inspection = await to_thread.run_sync(inspected, product, result, upload.include, limiter=decoding)
        monitor.images.labels(inspection.product or "", inspection.label or "").inc()
        monitor.seconds.observe(time.perf_counter() - begun)
        return inspection

    @app.get("/health")
    async def health() -> dict:
        """Whether the service answers, its version and its runtime."""
        return {"status": "ok", "version": __version__, "backend": detector.backend, "products": len(products)}

    @app.get("/metrics", dependencies=[user], response_class=Response)
    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(monitor.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/products", dependencies=[user])
    async def list_products() -> list[dict]:
        """The products, and what their profiles promise."""
        return [product.describe() for product in products.values()]

    @app.put("/products/{name}", dependencies=[admin])
    async def put_product(name: str, request: Request) -> dict:
        """Adds or replaces a product; the form's `files` are the files of its profile's folder."""
        async with request.form(max_files=2, max_fields=1) as form:
            uploads = [each for each in form.getlist("files") if isinstance(each, UploadFile)]
            files = {each.filename or "": await each.read() for each in uploads}
        try:
            product = await to_thread.run_sync(products.put, name, files)
        except ValueError as error:
            raise RefusedError(422, str(error)) from None
        return product.describe()

    @app.delete("/products/{name}", dependencies=[admin], status_code=204)
    async def remove_product(name: str):
        """Removes a product."""
        try:
            await to_thread.run_sync(products.remove, name)
        except KeyError:
            raise RefusedError(404, f"There is no product {name[:80]!r}.") from None

    return app


def needs_token(token: str | None, or_forbidden: bool = False):
    """A route's dependency that refuses requests without the token (`Authorization: Bearer ...`).

    Args:
        or_forbidden: refuse all requests if there is no token.
    """
    scheme = HTTPBearer(auto_error=False)

    def check(given: HTTPAuthorizationCredentials | None = Depends(scheme)):  # noqa: B008
        if token is None and or_forbidden:
            raise RefusedError(403, "Products cannot be changed here: the service was started without an admin token.")
        if token is not None and (given is None or not same(given.credentials, token)):
            raise HTTPException(401, "A valid token is needed.", {"WWW-Authenticate": "Bearer"})

    return Depends(check)


def inspected(product: Product | None, result: DetectionResult, include: tuple[str, ...]) -> Inspection:
    """A result as an answer."""
    height, width = result.size
    return Inspection(
        product=None if product is None else product.name,
        score=result.score,
        p_value=result.p_value,
        label=result.label,
        regions=result.regions,
        width=width,
        height=height,
        among_normals=result.among_normals,
        map=image_base64(map_image(result.anomaly_map), **QUICK_PNG) if MAP in include else None,
        overlay=image_base64(result.heatmap(), **QUICK_PNG) if OVERLAY in include else None,
    )
