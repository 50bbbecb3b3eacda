"""A thread beside the main one that makes items before they are needed."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """An iterator whose items one thread makes ahead of time, in their order.

    Args:
        items: an iterator; the thread takes from it.
        count: how many items may be ready at a time.
        weight: of an item; by default nothing.
        most: the next item is made only while those that are ready, and the one in use, weigh no more together.

    Attributes:
        waited: seconds that the user of the items has waited for one.
    """

    def __init__(
        self, items: Iterator[Item], count: int, weight: Callable[[Item], float] = lambda item: 0, most: float = 0
    ):
        self.waited = 0.0
        self._count, self._weight, self._most = count, weight, most
        self._ready: deque[tuple[str, Item | BaseException | None, float]] = deque()
        self._in_use, self._stopped = 0.0, False
        self._changed = Condition()
        self._thread = Thread(target=self._make, args=(items,), daemon=True)

    def __iter__(self) -> Iterator[Item]:
        """Raises the error that an item raises when it is made, after the items before it."""
        self._thread.start()
        try:
            while True:
                before = time.perf_counter()
                kind, value = self._next()
                self.waited += time.perf_counter() - before
                if kind == "item":
                    yield value
                    del value  # not held while the next one is made
                elif kind == "error":
                    raise value
                else:
                    return
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()

    def _next(self) -> tuple:
        with self._changed:
            self._in_use = 0.0  # whoever asks for the next item is done with the last one
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ready)
            kind, value, self._in_use = self._ready.popleft()
            self._changed.notify_all()
        return kind, value

    def _make(self, items: Iterator[Item]):
        try:
            for item in items:
                if not self._put("item", item, self._weight(item)):
                    return
                del item  # not held while the next one is made
            self._put("end", None)
        except BaseException as error:  # also Ctrl-C
            self._put("error", error)

    def _put(self, kind: str, value: Item | BaseException | None, weight: float = 0.0) -> bool:
        """Hands an item over and waits until the next one may be made; false if nobody wants it."""
        with self._changed:
            self._ready.append((kind, value, weight))
            self._changed.notify_all()
            del value
            self._changed.wait_for(lambda: self._stopped or self._has_room())
            return not self._stopped

    def _has_room(self) -> bool:
        total = self._in_use + sum(weight for _, _, weight in self._ready)
        return len(self._ready) <= self._count and total <= self._most
