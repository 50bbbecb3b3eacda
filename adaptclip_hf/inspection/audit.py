"""Good photos that look bad among the others, named before they become the standard."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import median_abs_deviation

from .photo_features import ProfilePhoto

# a photo is named above this modified z-score of log scores (Iglewicz and Hoaglin 1993 take 3.5)
SUSPICIOUS = 3.5
FEWEST = 5  # photos that tell what is usual


@dataclass(frozen=True)
class Suspect:
    """A good photo that scores unlike the others: its name, score, and how many robust deviations above them."""

    name: str
    score: float
    deviations: float


def suspects(photos: Sequence[ProfilePhoto]) -> list[Suspect]:
    """The photos whose score, each against the others, stands out above the rest; the worst first.

    By the modified z-score of the logarithms: scores are skewed, and a defect's score is a multiple of the usual one.
    """
    if len(photos) < FEWEST:
        return []
    scores = [photo.score for photo in photos]
    logs = np.log(np.maximum(scores, 1e-6))
    spread = max(median_abs_deviation(logs, scale="normal"), 1e-3)
    deviations = (logs - np.median(logs)) / spread
    found = [
        Suspect(photo.name, float(photo.score), float(each)) for photo, each in zip(photos, deviations, strict=True)
    ]
    return sorted((each for each in found if each.deviations > SUSPICIOUS), key=lambda each: -each.deviations)
