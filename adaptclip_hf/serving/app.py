"""The service: its routes."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ..detector import AnomalyDetector
from ..engine import DetectionResult, PlainReference
from ..versions import __version__
from .answers import About, Answer, Health, Inspection, ProductContent, inspected, refusals
from .batches import Batches, default_batch_size, default_workers
from .budget import Budget
from .failures import is_short_of_memory, refusal_of
from .limits import BodyLimit, Limits, RefusedError
from .memory import ImageMemory, Traffic
from .monitoring import Monitor
from .products import Product, Products, one_line
from .stopping import Stopping
from .tokens import Tokens
from .uploads import BODY, PROFILE_BODY, Photo, Upload, memory_for, read_photo, read_upload

DECODING_THREADS = 2
MOST_FILES = 3  # of a profile's folder
CLIENT_LEFT = 499  # what nobody reads, as nginx counts it
T = TypeVar("T")
log = logging.getLogger("uvicorn.error")


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


def make_app(detector: AnomalyDetector, products: Products, settings: ServiceSettings = ServiceSettings()) -> FastAPI:
    """The service as an ASGI application; its page is `/docs`, and `/` names it.

    Args:
        products: their profiles decide; without products images are scored zero-shot.
    """
    limits = settings.limits
    monitor = Monitor(lambda: len(batches))
    workers = settings.workers or default_workers(detector)
    batch_size = settings.batch_size or default_batch_size(detector)
    batches = Batches(detector, workers, batch_size, monitor.batches.observe)
    threads, changing = Budget(DECODING_THREADS), CapacityLimiter(1)
    decoding = CapacityLimiter(DECODING_THREADS)
    memory, traffic, stopping = ImageMemory(limits.memory), Traffic(limits.traffic), Stopping(limits.stopping)
    zero_shot = detector.prepare(PlainReference())
    arrivals, in_work = count(), 0

    @asynccontextmanager
    async def lifespan(_):
        yield {"stopping": stopping}
        await to_thread.run_sync(batches.close)

    app = FastAPIOffline(title="adaptclip serve", version=__version__, lifespan=lifespan)
    app.add_middleware(BodyLimit, limits=limits, refused=monitor.count_refused)
    app.add_middleware(
        Tokens, token=settings.token, admin_token=settings.admin_token, refused=monitor.count_refused
    )  # before all others
    bearer = Depends(HTTPBearer(auto_error=False))  # so that the documentation tells of tokens

    @app.exception_handler(RefusedError)
    async def refused(_, error: RefusedError) -> JSONResponse:
        return refusal(error.status, error.reason)

    @app.exception_handler(HTTPException)
    async def http_error(_, error: HTTPException) -> JSONResponse:
        return refusal(error.status_code, error.detail, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def client_left(_, error: ClientDisconnect) -> Response:
        return refusal(CLIENT_LEFT, "The client left.")

    @app.exception_handler(OSError)
    @app.exception_handler(MemoryError)
    async def short_of_something(_, error: Exception) -> JSONResponse:
        found = refusal_of(error)
        log.error("%s", found.reason)
        return refusal(found.status, found.reason)

    @app.exception_handler(Exception)
    async def failed(_, error: Exception) -> JSONResponse:
        return refusal(500, "The service failed at this request: its log says why.")

    def refusal(status: int, reason: str, headers=None) -> JSONResponse:
        monitor.count_refused(status)
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
        if name in products.damaged:
            raise RefusedError(422, f"product: {name!r} cannot be opened: {products.skipped[name]}")
        if name is None and not products.damaged and len(products) <= 1:
            return next(iter(products.values()), None)
        known = ", ".join([*products, *(f"{each} (cannot be opened)" for each in products.damaged)]) or "none"
        if name is None:
            raise RefusedError(422, f"product: one is needed, there are {known}.")
        try:
            return products[name]
        except KeyError:
            raise RefusedError(422, f"product: there is no {name[:80]!r}, there is {known}.") from None

    @app.post(
        "/detect",
        dependencies=[bearer],
        openapi_extra={"requestBody": BODY},
        response_model=Inspection,
        responses=refusals(400, 401, 408, 413, 415, 422, 500, 503),
    )
    async def detect(request: Request) -> Response:
        """Scores an image, and decides by a product's profile."""
        begun, arrival = time.perf_counter(), next(arrivals)  # its head is there, its body may not be
        async with stopping.accepted(), traffic.body(request) as body:
            with admitted():
                content = await scored(arrival, request.headers.get("content-type", ""), body)
        monitor.seconds.observe(time.perf_counter() - begun)
        return Answer(content, traffic)

    async def scored(arrival: int, kind: str, body: bytes) -> bytes:
        upload, product, needed = await in_turn(arrival, looked_at, kind, body)
        reference = zero_shot if product is None else product.undecided
        profile = zero_shot.reference if product is None else product.profile
        async with memory.lend(needed, arrival):
            photo = await in_turn(arrival, read_photo, detector.reader, upload, profile)
            try:
                result = await asyncio.wrap_future(batches.submit(photo.loaded, reference, arrival))
            except ValueError as error:  # such as an image whose tiles lie elsewhere than the product's
                raise RefusedError(422, f"image: {error}") from None
            except RuntimeError as error:
                if is_short_of_memory(error):
                    raise MemoryError(str(error)) from error
                raise
            return await in_turn(arrival, answered, product, photo, result, upload.include)

    async def in_turn(arrival: int, work: Callable[..., T], *args) -> T:
        """What a thread makes of it, after the work of all requests that came earlier and wait for a thread too."""
        async with threads.lend(1, arrival):
            return await to_thread.run_sync(work, *args, limiter=decoding)

    def looked_at(kind: str, body: bytes) -> tuple[Upload, Product | None, int]:
        """A request's fields, its product, and how many bytes the work on its image takes."""
        upload = read_upload(kind, body)
        product = product_of(upload.product)
        return upload, product, memory_for(upload, product is not None, limits.pixels)

    def answered(product: Product | None, photo: Photo, result: DetectionResult, include: tuple[str, ...]) -> bytes:
        inspection = inspected(product, photo, result, include, detector.dtype)
        monitor.images.labels(inspection.product or "", inspection.label or "").inc()
        return inspection.model_dump_json().encode()

    @app.get("/", dependencies=[bearer], response_model=About, responses=refusals(401))
    async def about() -> dict:
        """What answers here, its products, and where the documentation is."""
        return {
            "service": "adaptclip serve",
            "version": __version__,
            "about": "Scores photos of parts and decides by a product's profile of good ones.",
            "products": list(products),
            "detect": "/detect",
            "health": "/health",
            "documentation": "/docs",
        }

    @app.get("/health", response_model=Health)
    async def health() -> dict:
        """Whether the service answers, its version and its runtime."""
        about = {"version": __version__, "backend": detector.backend, "dtype": detector.dtype}
        return {"status": "ok", **about, "products": len(products), "skipped": len(products.skipped)}

    @app.get("/metrics", dependencies=[bearer], response_class=PlainTextResponse, responses=refusals(401))
    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(monitor.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/products", dependencies=[bearer], response_model=list[ProductContent], responses=refusals(401))
    async def list_products() -> list[dict]:
        """The products, and what their profiles promise."""
        return [product.describe() for product in products.values()]

    @app.put(
        "/products/{name}",
        dependencies=[bearer],
        openapi_extra={"requestBody": PROFILE_BODY},
        response_model=ProductContent,
        responses=refusals(400, 401, 403, 408, 413, 422, 500, 503, 507),
    )
    async def put_product(name: str, request: Request) -> dict:
        """Adds or replaces a product; the form's `files` are the files of its profile's folder."""
        async with request.form(max_files=MOST_FILES, max_fields=1) as form:
            uploads = [each for each in form.getlist("files") if isinstance(each, UploadFile)]
            files = {each.filename or "": each.file for each in uploads}
            try:
                product = await to_thread.run_sync(products.put, name, files, limiter=changing)
            except ValueError as error:
                raise RefusedError(422, one_line(error)) from None
        return product.describe()

    @app.delete(
        "/products/{name}",
        dependencies=[bearer],
        status_code=204,
        responses=refusals(401, 403, 404, 422, 500),
    )
    async def remove_product(name: str):
        """Removes a product."""
        try:
            await to_thread.run_sync(products.remove, name, limiter=changing)
        except KeyError:
            raise RefusedError(404, f"There is no product {name[:80]!r}.") from None

    return app
