"""Keeps clients from filling the log: what one of them can cause again and again is told seldom."""

import logging
import time


class Seldom(logging.Filter):
    """Lets a warning pass at most once in so many seconds; the one that passes says how many were left out."""

    def __init__(self, seconds: float = 10.0):
        super().__init__()
        self.seconds = seconds
        self._told: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        now, message = time.monotonic(), str(record.msg)
        told, left_out = self._told.get(message, (-self.seconds, 0))
        if now - told < self.seconds:
            self._told[message] = (told, left_out + 1)
            return False
        self._told[message] = (now, 0)
        if left_out:
            record.msg = f"{message} ({left_out} more since the last one was told)"
        return True
