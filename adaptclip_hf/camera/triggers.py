"""When a photo is taken: every few seconds, or when what is seen has come to a stop."""

import math
from pathlib import Path

import numpy as np

STEP = 0.2  # seconds between pictures that are compared
SETTLED = 0.4  # seconds without motion, after which it has stopped
MOVING, RESTING = 10.0, 5.0  # grey values of 255: motion begins above the first, and ends below the second
SIDE = 48  # pixels of the small pictures, in which a camera's noise is below RESTING
SAME = 1e-6  # seconds: times of pictures are fractions


class Trigger:
    """Says of each picture, in order, whether it is a photo."""

    def asks(self, frame, seconds: float) -> bool:
        """
        Args:
            frame: an `av.VideoFrame`.
            seconds: when it was shown.
        """
        raise NotImplementedError

    def taken(self, photo: Path):
        """The photo that was asked for is written."""


class Every(Trigger):
    """A photo of the first picture, and one every so many seconds."""

    def __init__(self, seconds: float):
        self.seconds, self.due = seconds, -math.inf

    def asks(self, frame, seconds: float) -> bool:
        if seconds < self.due - SAME:
            return False
        after = self.due + self.seconds  # no drift, unless pictures did not come
        self.due = after if after > seconds + SAME else seconds + self.seconds
        return True


class Still(Trigger):
    """One photo each time that motion has come to a stop.

    Small grey pictures are compared. What the brightness of the whole picture does is no motion.
    """

    def __init__(self):
        self.before, self.compared, self.unrest, self.is_moving = None, -math.inf, -math.inf, False

    def asks(self, frame, seconds: float) -> bool:
        if seconds - self.compared < STEP - SAME:
            return False
        before, self.before, self.compared = self.before, small_grey(frame), seconds
        if before is None or before.shape != self.before.shape:
            return False
        change = self.before - before
        largest = np.abs(change - np.median(change)).max()
        self.is_moving |= bool(largest > MOVING)
        if largest > RESTING:
            self.unrest = seconds
        if self.is_moving and seconds - self.unrest >= SETTLED - SAME:
            self.is_moving = False
            return True
        return False


def small_grey(frame) -> np.ndarray:
    """A picture in grey, its longer side `SIDE` pixels: (height, width), float32. Each a mean."""
    share = SIDE / max(frame.width, frame.height)
    size = {"width": max(round(frame.width * share), 1), "height": max(round(frame.height * share), 1)}
    return frame.reformat(**size, format="gray", interpolation="AREA").to_ndarray().astype(np.float32)
