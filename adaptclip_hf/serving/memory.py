"""How much memory requests take, and who waits or is refused when there is no more."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from starlette.requests import Request

from .budget import Budget
from .limits import RefusedError

SMALL_SHARE, LARGE_SHARE = 1 / 4, 3 / 4  # of the memory for images
SMALL = 1 / 16  # of that memory at most is what a small image takes


class ImageMemory:
    """Memory for images in work. Small ones have a part to themselves: they never wait for large ones."""

    def __init__(self, most: int):
        self._most, self._small, self._large = most, Budget(SMALL_SHARE * most), Budget(LARGE_SHARE * most)

    def lend(self, size: int, arrival: int):
        """A context for the work on an image that takes so many bytes; it waits for its turn by its arrival."""
        return (self._small if size <= SMALL * self._most else self._large).lend(size, arrival)


class Body:
    """A request's body: what has come of it."""

    def __init__(self):
        self.chunks: list[bytes] = []
        self.size = 0
        self.given_up = False


class Traffic:
    """Counts the bytes of bodies that arrive or wait, and of answers that clients have not read.

    When there is no room, the body that has been arriving for the longest time is given up: an honest client's is
    there within moments.

    Args:
        most: bytes.
    """

    def __init__(self, most: int):
        self.most, self.used = most, 0
        self._arriving: dict[Body, None] = {}  # in the order in which they began

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """A request's whole body, in memory; counted until the end of the context.

        Raises:
            RefusedError: 503, there is no room.
        """
        body = Body()
        self._arriving[body] = None
        try:
            async for chunk in request.stream():
                self._make_room(body, len(chunk))
                body.chunks.append(chunk)
                body.size += len(chunk)
                self.used += len(chunk)
            del self._arriving[body]
            whole = b"".join(body.chunks)
            body.chunks.clear()
            yield whole
        finally:
            self._arriving.pop(body, None)
            self._forget(body)

    @contextmanager
    def answer(self, size: int) -> Iterator[None]:
        """Counts an answer, which is there already, while it is sent."""
        self.used += size
        try:
            yield
        finally:
            self.used -= size

    def _make_room(self, body: Body, size: int):
        while size and not body.given_up and self.used + size > self.most:
            oldest = next(iter(self._arriving))
            oldest.given_up = True
            del self._arriving[oldest]
            self._forget(oldest)
        if body.given_up:
            raise RefusedError(503, "Other requests take all memory that this service has for them: try again.")

    def _forget(self, body: Body):
        self.used -= body.size
        body.size = 0
        body.chunks.clear()
