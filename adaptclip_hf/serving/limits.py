"""The limits of a service, and the middleware that enforces them before a request is parsed."""

import asyncio
import hmac
import json
from dataclasses import dataclass

MEGA = 1_000_000
CLOSE = (b"connection", b"close")


@dataclass(frozen=True)
class Limits:
    """The limits of a service.

    Attributes:
        waiting: requests with an image that are handled at the same time; further ones get a 503.
        body: bytes of a request with an image.
        profile_body: bytes of a product's profile.
        pixels: of an image.
        seconds: in which the whole body must arrive.
    """

    waiting: int = 128
    body: int = 20 * MEGA
    profile_body: int = 500 * MEGA
    pixels: int = 64 * MEGA
    seconds: float = 30.0


class RefusedError(Exception):
    """A request that is answered with a status and a reason, before it reaches a route."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class BodyLimit:
    """ASGI middleware: refuses a body that is too long or too slow while it arrives, without storing it."""

    def __init__(self, app, limits: Limits):
        self.app, self.limits = app, limits

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        most = self.limits.profile_body if scope["path"].startswith("/products/") else self.limits.body
        deadline = asyncio.get_running_loop().time() + self.limits.seconds
        read, started, complete = 0, False, False

        async def limited():
            nonlocal read, complete
            if complete:  # after the body only the client's disconnect follows
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise RefusedError(408, f"The body did not come within {self.limits.seconds:g} s.") from None
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
        except RefusedError as refused:
            if not started:
                await answer(send, refused)


def too_long(most: int) -> RefusedError:
    return RefusedError(413, f"The body is longer than {most / MEGA:g} MB, the limit of this service.")


async def answer(send, refused: RefusedError):
    """Answers and closes the connection without reading the rest of the request."""
    body = json.dumps({"detail": refused.reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refused.status, "headers": [*headers, CLOSE]})
    await send({"type": "http.response.body", "body": body})


def same(token: str, expected: str) -> bool:
    """Whether two tokens are equal, in constant time."""
    return hmac.compare_digest(token.encode(errors="replace"), expected.encode())
