"""How long a fit of tiled photos will take, as its first photo shows."""

import math
import time
from collections.abc import Callable

import torch

from ..engine import AnomalyScorer, View
from ..engine.images import LoadedImage, ReadImage
from ..engine.tiles import AUTO, ONLY, Tiles
from ..modeling.bank_content import MOST_COMPARED
from ..modeling.normal_variation import nearest_distances
from ..reporting import Report
from .fit_settings import FitSettings

TILES_IN_BANK = 64  # of photos whose tiles are compared with those of all places
TRIED = 8  # tiles that one is compared with, to measure
PASTED = 80  # defects


class Estimate:
    """Tells, once the first photo is encoded, how long all of them will take; only of photos that are cut into tiles.

    Args:
        count: of the photos; `None` where that is not known, and nothing is told.
    """

    def __init__(
        self, scorer: AnomalyScorer, view: View, settings: FitSettings, count: int | None, report: Report,
        clock: Callable[[], float] = time.perf_counter,
    ):  # fmt: skip
        self.scorer, self.view, self.settings, self.report, self.clock = scorer, view, settings, report, clock
        self.count = count or 0
        self._first: tuple[Tiles, float] | None = None

    def __call__(self, image: ReadImage):
        """To be called with each photo before it is encoded."""
        if self._first is not None and self.count:
            tiles, began = self._first
            self.report(f"{self.count} photos of {len(tiles)} tiles: {self.told(tiles, self.clock() - began)}")
            self.count = 0
        elif isinstance(image, LoadedImage) and len(image.tiles) > 1:
            self._first = image.tiles, self.clock()

    def told(self, tiles: Tiles, seconds: float) -> str:
        """How long it takes, for people.

        Args:
            seconds: that the first photo took.
        """
        encoding, each = seconds * (self.count + PASTED / len(tiles)), self.seconds_a_comparison()
        at_places, beside, anywhere = (
            encoding + each * number for number in comparisons(self.count, tiles, self.settings.bank_size)
        )
        if self.view.same_place == AUTO and self.settings.bank_size is None:
            return f"{about(at_places)} where they lie alike, else {about(anywhere).removeprefix('about ')}"
        return about({ONLY: at_places, True: beside}.get(self.view.same_place, anywhere))

    def seconds_a_comparison(self) -> float:
        """Of one tile with another one."""
        config = self.scorer.model.config
        tokens = torch.rand(TRIED, config.grid_size**2, config.clip_config.projection_dim, device=self.scorer.device)
        tokens = tokens.to(self.scorer.model.dtype)
        nearest_distances(tokens[:1], tokens[0])  # what is loaded at the first call
        began = self.clock()
        nearest_distances(tokens[:1], tokens.flatten(0, 1))
        return (self.clock() - began) / TRIED * len(config.feature_layers)


def comparisons(photos: int, tiles: Tiles, bank_size: int | None) -> tuple[int, int, int]:
    """How many pairs of tiles are compared: each tile with those of its own place; with those beside it too; with one
    bank for all places."""
    with_one_another = len(tiles) * photos * min(photos, MOST_COMPARED)
    beside = sum(len(tile.neighbours()) for tile in tiles) / len(tiles)
    searches = len(tiles) * photos + PASTED
    return (
        with_one_another + PASTED * photos,
        with_one_another + round(searches * photos * beside),
        searches * (bank_size or TILES_IN_BANK),
    )


def about(seconds: float) -> str:
    """A time for people."""
    minutes = math.ceil(seconds / 60)
    return "less than a minute" if seconds < 45 else f"about {minutes} minute{'s' if minutes > 1 else ''}"
