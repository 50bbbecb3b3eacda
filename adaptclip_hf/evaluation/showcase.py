"""The test images that tell most about a model: its worst misses, worst false alarms and best hits."""

from typing import NamedTuple

import numpy as np


class ShownImage(NamedTuple):
    """An image's score, its row, whether it is anomalous, and its map (H, W)."""

    score: float
    row: int
    anomalous: bool
    anomaly_map: np.ndarray


class Showcase:
    """Keeps the maps of a few images; which ones does not depend on the order in which they come."""

    def __init__(self, size: int = 4):
        self.size = size
        self.kept: dict[int, ShownImage] = {}

    def update(self, shown: list[ShownImage]):
        self.kept |= {each.row: each for each in shown}
        chosen = [*self.misses(), *self.false_alarms(), *self.hits()]
        self.kept = {each.row: each for each in chosen}

    def ranked(self, anomalous: bool) -> list[ShownImage]:
        return sorted((each for each in self.kept.values() if each.anomalous == anomalous), key=lambda each: each[:2])

    def misses(self) -> list[ShownImage]:
        """The anomalous images that score lowest."""
        return self.ranked(True)[: self.size]

    def false_alarms(self) -> list[ShownImage]:
        """The normal images that score highest."""
        return self.ranked(False)[::-1][: self.size]

    def hits(self) -> list[ShownImage]:
        """The anomalous images that score highest."""
        return self.ranked(True)[::-1][: self.size]
