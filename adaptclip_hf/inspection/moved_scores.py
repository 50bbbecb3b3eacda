"""How far a profile's scores move in another dtype: the record, and what follows from it; imports nothing heavy."""

from dataclasses import dataclass

from .calibration import Calibration

DTYPE = "dtype"  # of what made a profile
# deviations of the good photos' scores by which all may move together, which makes a rate of 5 % at most about 6 %;
# and one of them, up or down, which evens out
TOGETHER, ALONE = 0.1, 0.5


@dataclass(frozen=True)
class Moved:
    """What another dtype does to the scores of a few good photos.

    Attributes:
        photos: how many were looked at.
        largest: of the differences of their scores.
        mean: of the differences; positive where scores are higher in the other dtype.
        labels: how many of them have another label.
    """

    photos: int
    largest: float
    mean: float
    labels: int

    def is_small(self, calibration: Calibration) -> bool:
        """Whether scores move far less than good photos differ."""
        deviation = float(calibration.scores.std())
        return abs(self.mean) <= TOGETHER * deviation and self.largest <= ALONE * deviation
