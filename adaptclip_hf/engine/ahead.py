"""Work that is done in a thread while the last of it is used."""

import time
from collections.abc import Iterator
from queue import Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ahead(Generic[Item]):
    """An iterator whose items are made some places ahead, in their order, in one thread.

    Attributes:
        waited: seconds for which whoever takes the items had to wait for one.
    """

    def __init__(self, items: Iterator[Item], count: int):
        self.waited = 0.0
        self._queue: Queue = Queue(maxsize=count)
        self._stopped = Event()
        self._thread = Thread(target=self._make, args=(items,), daemon=True)

    def __iter__(self) -> Iterator[Item]:
        """Raises what the making of an item raises, at its place."""
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
            while not self._queue.empty():  # the thread may be waiting for room
                self._queue.get_nowait()

    def _make(self, items: Iterator[Item]):
        try:
            for item in items:
                self._queue.put(("item", item))
                if self._stopped.is_set():
                    return
            self._queue.put(("end", None))
        except BaseException as error:  # Ctrl-C among them
            self._queue.put(("error", error))
