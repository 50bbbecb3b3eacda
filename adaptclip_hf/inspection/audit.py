"""Finds photos among the good ones that look bad, before they become the standard."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .photos import CONFIRMED, DEFECT, ProfilePhoto

# a photo is named above this modified z-score of log scores (Iglewicz and Hoaglin 1993 take 3.5)
SUSPICIOUS = 3.5
LEAST = 1e-6  # distance of a score from 0 and 1, which have no odds
NORMAL_MAD = 0.6744897501960817  # median absolute deviation of a normal distribution, in standard deviations
FEWEST = 5  # photos that show which scores are usual


@dataclass(frozen=True)
class Suspect:
    """A good photo that scores unlike the others: its name, score, and how many robust deviations above them."""

    name: str
    score: float
    deviations: float


def good_photos(photos: Iterable[ProfilePhoto]) -> list[ProfilePhoto]:
    """Photos of good parts as they came, without false alarms that were confirmed."""
    return [photo for photo in photos if photo.role not in (CONFIRMED, DEFECT)]


def suspects(photos: Sequence[ProfilePhoto]) -> list[Suspect]:
    """The good photos whose score against the others stands out; the worst first.

    Logarithms of the scores' odds are compared, because scores are skewed and a defect's score is a multiple of the
    usual.
    """
    photos = good_photos(photos)
    if len(photos) < FEWEST:
        return []
    scores = np.clip([photo.score for photo in photos], LEAST, 1 - LEAST)
    logs = np.log(scores / (1 - scores))
    from_median = logs - np.median(logs)
    # as scipy.stats.median_abs_deviation, which takes half a second to import
    spread = max(np.median(np.abs(from_median)) / NORMAL_MAD, 1e-3)
    deviations = from_median / spread
    found = [
        Suspect(photo.name, float(photo.score), float(each)) for photo, each in zip(photos, deviations, strict=True)
    ]
    return sorted((each for each in found if each.deviations > SUSPICIOUS), key=lambda each: -each.deviations)
