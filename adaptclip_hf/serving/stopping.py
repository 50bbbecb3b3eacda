"""How a service stops: what it has accepted is answered, for a while."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from .limits import RefusedError


class Stopping:
    """After [`~Stopping.begin`] new requests get a 503, and accepted ones when the time is over.

    Args:
        seconds: that accepted requests are given.
    """

    def __init__(self, seconds: float):
        self.seconds, self.begun = seconds, False
        self._accepted: set[asyncio.Timeout] = set()

    def begin(self):
        """Called in the service's event loop, any number of times."""
        if not self.begun:
            self.begun = True
            asyncio.get_running_loop().call_later(self.seconds, self._end)

    def _end(self):
        for timer in self._accepted:
            timer.reschedule(0)

    @asynccontextmanager
    async def accepted(self) -> AsyncIterator[None]:
        """The work on a request.

        Raises:
            RefusedError: 503, the service stops.
        """
        if self.begun:
            raise RefusedError(503, "The service is stopping: try again.")
        try:
            async with asyncio.timeout(None) as timer:
                self._accepted.add(timer)
                yield
        except TimeoutError:
            if not timer.expired():
                raise
            raise RefusedError(503, "The service is stopping, and this image's turn did not come: try again.") from None
        finally:
            self._accepted.discard(timer)
