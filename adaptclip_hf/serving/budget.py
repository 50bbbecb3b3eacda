"""What there is only so much of, and whose turn it is: always that of the request that came first."""

import asyncio
from bisect import insort
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import itemgetter


class Budget:
    """So much of something, bytes or threads, lent to requests in the order in which they came.

    Who asks for more than there is gets it alone.

    Args:
        most: how much there is.
    """

    def __init__(self, most: float):
        self.most, self.lent = most, 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # by arrival

    @asynccontextmanager
    async def lend(self, size: int, arrival: int) -> AsyncIterator[None]:
        """Waits until there is so much, and no request that came earlier waits; it is given back at the end.

        Args:
            arrival: the request's number, by when it came. Steps of an early request go before those of a late one,
                whenever they are asked for.
        """
        turn = asyncio.get_running_loop().create_future()
        asked = arrival, size, turn
        insort(self._waiting, asked, key=itemgetter(0))
        self._lend_next()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self.lent -= size
            else:
                self._waiting.remove(asked)
            self._lend_next()

    def _lend_next(self):
        while self._waiting:
            _, size, turn = self._waiting[0]
            if turn.cancelled():  # it gives up, and takes itself out of the row
                return
            if self.lent and self.lent + size > self.most:
                return
            del self._waiting[0]
            self.lent += size
            turn.set_result(None)
