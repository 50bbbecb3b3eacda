"""A few photos of a fit whose pixels are kept until its verdict is made: one tile of each, as the model sees it."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ..engine.scoring import TileInput
from ..engine.tiles import Tile, Tiles

MOST_PHOTOS = 16
LOOKED_AT = 0.5  # of a tile's area, at least, if there is such a tile


class SampledTile(NamedTuple):
    """A tile of a photo.

    Attributes:
        tile: which one.
        pixel_values: (1, 3, S, S).
    """

    tile: Tile
    pixel_values: torch.Tensor


@dataclass
class PhotoSample:
    """At most 16 of the photos that pass by, by a draw that depends on the seed and their pixels alone.

    Attributes:
        seed: of the draw.
        tiles: digest of a photo's pixels -> its tile.
    """

    seed: int
    tiles: dict[str, SampledTile] = field(default_factory=dict)

    def rank(self, digest: str) -> str:
        return hashlib.sha256(f"{self.seed} {digest}".encode()).hexdigest()

    def keeper(self, digest: str, tiles: Tiles) -> Callable[[TileInput], None] | None:
        """What keeps the one tile of a photo that is drawn, when it comes by; `None` if the photo is not drawn."""
        if len(self.tiles) >= MOST_PHOTOS and self.rank(digest) > max(map(self.rank, self.tiles)):
            return None
        shares = [float(looked_at(tile, 32).mean()) for tile in tiles]
        open_ones = [number for number, share in enumerate(shares) if share >= min(LOOKED_AT, max(shares))]
        drawn = open_ones[int(self.rank(digest)[:8], 16) % len(open_ones)]

        def keep(given: TileInput):
            if given.tile.number == drawn:
                self.tiles[digest] = SampledTile(*given)
                if len(self.tiles) > MOST_PHOTOS:
                    del self.tiles[max(self.tiles, key=self.rank)]

        return keep


def looked_at(tile: Tile, size: int) -> np.ndarray:
    """Where a tile is looked at (S, S): not under the view's mask."""
    tiles, (left, top, width, height) = tile.tiles, tile.box
    if tiles.view.ignore is None:
        return np.ones((size, size), bool)
    hidden = Image.fromarray(tiles.view.ignore[top : top + height, left : left + width])
    return ~np.asarray(hidden.resize((size, size), Image.Resampling.NEAREST))
