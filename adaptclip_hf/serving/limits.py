"""The limits of a service, and the middleware that enforces those of a body while it arrives."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

MEGA = 1_000_000
CLOSE = (b"connection", b"close")
PATIENCE = 10.0  # seconds before a body must come at the slowest rate
SLOWEST = 1000  # bytes a second, on average


@dataclass(frozen=True)
class Limits:
    """The limits of a service.

    Attributes:
        waiting: images that are handled at the same time, from when their bodies are there; further ones get a 503.
        memory: bytes that images take while they are decoded, scored and drawn; further ones wait.
        traffic: bytes of bodies that arrive and wait, and of answers that are not read yet; further bodies get a 503.
        body: bytes of a request with an image.
        profile_body: bytes of a product's profile.
        pixels: of an image.
        seconds: in which the whole body must arrive.
        stopping: seconds that accepted requests are given after SIGTERM; what is left then gets a 503.
    """

    waiting: int = 128
    memory: int = 1200 * MEGA
    traffic: int = 256 * MEGA
    body: int = 20 * MEGA
    profile_body: int = 500 * MEGA
    pixels: int = 64 * MEGA
    seconds: float = 30.0
    stopping: float = 60.0


class RefusedError(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class BodyLimit:
    """ASGI middleware: refuses a body that is too long or too slow while it arrives, without storing it.

    Args:
        refused: called with the status of what is refused before the application sees it.
    """

    def __init__(self, app, limits: Limits, refused: Callable[[int], None] = lambda status: None):
        self.app, self.limits, self.refused = app, limits, refused

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        most = self.limits.profile_body if scope["path"].startswith("/products/") else self.limits.body
        begun = asyncio.get_running_loop().time()
        read, started, complete = 0, False, False

        async def limited():
            nonlocal read, complete
            if complete:  # after the body only the client's disconnect follows
                return await receive()
            deadline = begun + min(self.limits.seconds, PATIENCE + read / SLOWEST)
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise too_slow(self.limits.seconds) from None
            read += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if read > most:
                raise too_long(most)
            return message

        async def noted(message):
            nonlocal started
            started = True
            if message["type"] == "http.response.start" and read and not complete:
                message = {**message, "headers": [*message["headers"], CLOSE]}  # the rest is not read
            await send(message)

        try:
            if int(dict(scope["headers"]).get(b"content-length") or 0) > most:
                raise too_long(most)
            await self.app(scope, limited, noted)
        except RefusedError as error:
            if not started:
                self.refused(error.status)
                await answer(send, error)


def too_long(most: int) -> RefusedError:
    return RefusedError(413, f"The body is longer than {most / MEGA:g} MB, the limit of this service.")


def too_slow(seconds: float) -> RefusedError:
    slowest = f"at {SLOWEST / 1000:g} kB/s from {PATIENCE:g} s on"
    return RefusedError(408, f"The body did not come in time: expected all of it within {seconds:g} s, and {slowest}.")


async def answer(send, refused: RefusedError, *headers: tuple[bytes, bytes]):
    """Answers and closes the connection without reading the rest of the request."""
    body = json.dumps({"detail": refused.reason}).encode()
    about = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": [*about, *headers, CLOSE]})
    await send({"type": "http.response.body", "body": body})
