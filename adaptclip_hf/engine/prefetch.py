"""A thread makes items before they are needed."""

import time
from collections.abc import Iterator
from queue import Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetch(Generic[Item]):
    """An iterator whose items one thread makes ahead of time, in their order.

    Args:
        items: an iterator; the thread takes from it.
        count: how many items may be ready at a time.

    Attributes:
        waited: seconds that the user of the items has waited for one.
    """

    def __init__(self, items: Iterator[Item], count: int):
        self.waited = 0.0
        self._queue: Queue = Queue(maxsize=count)
        self._stopped = Event()
        self._thread = Thread(target=self._make, args=(items,), daemon=True)

    def __iter__(self) -> Iterator[Item]:
        """Raises the error that an item raises when it is made, after the items before it."""
        self._thread.start()
        try:
            while True:
                before = time.perf_counter()
                kind, value = self._queue.get()
                self.waited += time.perf_counter() - before
                if kind == "item":
                    yield value
                elif kind == "error":
                    raise value
                else:
                    return
        finally:
            self._stopped.set()
            while not self._queue.empty():  # the thread may wait for room in the queue
                self._queue.get_nowait()

    def _make(self, items: Iterator[Item]):
        try:
            for item in items:
                self._queue.put(("item", item))
                if self._stopped.is_set():
                    return
            self._queue.put(("end", None))
        except BaseException as error:  # also Ctrl-C
            self._queue.put(("error", error))
