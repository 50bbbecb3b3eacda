"""Signals that ask a command to end: it ends as by Ctrl-C, with all that was done kept."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOPPED_BY = 128  # and the signal's number: an exit status as shells have it


class Stopped(KeyboardInterrupt):
    """A signal came that asks the process to end.

    Attributes:
        status: the exit status that tells so.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = STOPPED_BY + number


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, raise [`Stopped`] in the main thread meanwhile.

    What ignores them (`nohup`) still does. Handlers that were there are there again afterwards; Ray's ends without
    what is still to be written.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []

    def stop(number, frame):
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
