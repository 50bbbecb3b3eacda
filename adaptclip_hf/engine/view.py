"""How a photo is looked at: which part of it, whole or in tiles, and where not."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image
from transformers.image_utils import OPENAI_CLIP_MEAN

from ..processing.image_processing_adaptclip import resize_map

AUTO, WHOLE = "auto", "whole"
LONGEST_WHOLE = 2  # times its short side; what is longer is cut into squares rather than squeezed into one
SMALLEST_TILE = 32  # pixels
OVERLAP = 0.25
# what a mask hides gets the colour that the encoder sees as zero
HIDDEN = tuple(round(255 * value) for value in OPENAI_CLIP_MEAN)

Box = tuple[int, int, int, int]  # left, top, width, height in pixels


@dataclass(frozen=True, eq=False)
class View:
    """How photos are looked at, normal ones and queries alike.

    Attributes:
        tile: "auto": whole, but a photo more than twice as long as high in squares of its short side; "whole": always,
            squeezed into a square, as in the paper; or the side of a tile in the photo's pixels.
        overlap: of neighbouring tiles, at least; share of a tile's side, 0 to 0.75.
        same_place: compare each tile with normal ones of its place and the places beside it, not with all: for parts
            that always lie alike. All photos must have the same number of tiles.
        region: the part to look at, (left, top, width, height) in the photo's pixels; all of it without.
        ignore: (H, W) booleans of the photo's size, true where not to look.

    Raises:
        ValueError: a value out of range, named.
    """

    tile: int | str = AUTO
    overlap: float = OVERLAP
    same_place: bool = False
    region: Box | None = None
    ignore: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.tile not in (AUTO, WHOLE) and (isinstance(self.tile, str) or self.tile < SMALLEST_TILE):
            raise ValueError(
                f"Expected a tile of at least {SMALLEST_TILE} pixels, {AUTO!r} or {WHOLE!r}, got {self.tile!r}."
            )
        if not 0 <= self.overlap <= 0.75:
            raise ValueError(f"Expected an overlap between 0 and 0.75, got {self.overlap}.")
        if self.region is not None and (len(self.region) != 4 or min(self.region) < 0 or min(self.region[2:]) < 1):
            raise ValueError(f"Expected a region of left, top, width and height in pixels, got {self.region}.")
        if self.ignore is not None and self.ignore.all():
            raise ValueError("The mask of where not to look covers everything: nothing is left to look at.")

    def key(self) -> str:
        """The view as text, by which banks of other views are told apart; a mask by its digest."""
        mask = None if self.ignore is None else hashlib.sha256(np.packbits(self.ignore).tobytes()).hexdigest()[:16]
        return json.dumps([self.tile, self.overlap, self.same_place, self.region and list(self.region), mask])

    def cut(self, image: Image.Image, name: str) -> "Pieces":
        """The pieces of a photo that are looked at one by one.

        Raises:
            ValueError: the region lies outside the photo, or the mask has another size; names the photo.
        """
        pieces = self.plan((image.height, image.width), name)
        if self.ignore is not None:
            image = Image.composite(Image.new("RGB", image.size, HIDDEN), image, Image.fromarray(self.ignore))
        return replace(pieces, image=image)

    def plan(self, size: tuple[int, int], name: str) -> "Pieces":
        """Where the pieces of a photo of some (height, width) lie; without pixels. Raises what [`~View.cut`] does."""
        photo = f"{name} has {size[1]}x{size[0]} pixels"
        if self.ignore is not None and self.ignore.shape != size:
            height, width = self.ignore.shape
            raise ValueError(f"{photo}, the mask of where not to look {width}x{height}: expected the same.")
        left, top, width, height = self.region or (0, 0, size[1], size[0])
        if left + width > size[1] or top + height > size[0]:
            raise ValueError(f"{photo}: the region of {width}x{height} at ({left}, {top}) lies outside.")
        side = self._side(width, height)
        if side is None:
            columns, rows, sides = [0], [0], (width, height)
        else:
            columns, rows = (self._starts(length, side) for length in (width, height))
            sides = (side, side)
        return Pieces(self, size, (left, top, width, height), columns, rows, sides)

    def _side(self, width: int, height: int) -> int | None:
        """Of a tile, or `None` where the whole is looked at at once."""
        short, long = sorted((width, height))
        too_long = self.tile != WHOLE and long > LONGEST_WHOLE * short
        too_large = isinstance(self.tile, int) and long > self.tile
        if not too_long and not too_large:
            return None
        return min(self.tile, short) if isinstance(self.tile, int) else short

    def _starts(self, length: int, side: int) -> list[int]:
        """Where tiles begin along an axis: evenly, overlapping at least as asked."""
        count = math.ceil((length - side) / (side * (1 - self.overlap))) + 1
        return np.linspace(0, length - side, count).round().astype(int).tolist()


@dataclass(frozen=True, eq=False)
class Pieces:
    """The tiles of one photo, row by row, or the whole of it as the only one.

    Attributes:
        view: that cut it.
        size: (height, width) of the photo.
        region: the part that is looked at.
        columns, rows: where the tiles begin, from the region's corner.
        side: (width, height) of a tile.
        image: with what is not looked at hidden.
    """

    view: View
    size: tuple[int, int]
    region: Box
    columns: list[int]
    rows: list[int]
    side: tuple[int, int]
    image: Image.Image | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.columns) * len(self.rows)

    def __iter__(self) -> Iterator[Image.Image]:
        left, top = self.region[:2]
        for row in self.rows:
            for column in self.columns:
                if len(self) == 1 and self.region == (0, 0, *self.image.size):
                    yield self.image
                else:
                    x, y = left + column, top + row
                    yield self.image.crop((x, y, x + self.side[0], y + self.side[1]))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return len(self.rows), len(self.columns)

    def neighbours(self, number: int) -> list[int]:
        """The tiles at the place of one and beside it."""
        rows, columns = self.grid
        row, column = divmod(number, columns)
        beside = [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        return [down * columns + right for down, right in beside if 0 <= down < rows and 0 <= right < columns]


class Mosaic:
    """The scores and maps of a photo's pieces as one: the highest score, and the maps blended where they overlap.

    The map is kept as fine as the model sees: a tile larger than the model's input makes the whole map smaller than the
    region, and [`DetectionResult.anomaly_map`] brings it to the photo's size.
    """

    def __init__(self, pieces: Pieces):
        self.pieces, self.score = pieces, 0.0
        self.map: np.ndarray | None = None

    def add(self, number: int, score: float, model_map: np.ndarray):
        """Adds the score and the map (S, S) of a piece."""
        self.score = max(self.score, score)
        if len(self.pieces) == 1:
            self.map = model_map
            return
        if self.map is None:
            self._begin(model_map.shape[0])
        row, column = divmod(number, len(self.pieces.columns))
        top, left, side = self.tops[row], self.lefts[column], self.tile
        weights = self.row_weights[row][:, None] * self.column_weights[column][None]
        self.map[top : top + side, left : left + side] += resize_map(model_map, (side, side)) * weights

    def _begin(self, map_side: int):
        width, height = self.pieces.region[2:]
        scale = min(1.0, map_side / self.pieces.side[0])
        self.tile = round(self.pieces.side[0] * scale)
        self.lefts, columns = placed(self.pieces.columns, scale, self.tile, round(width * scale))
        self.tops, rows = placed(self.pieces.rows, scale, self.tile, round(height * scale))
        self.map = np.zeros((rows, columns), np.float32)
        self.column_weights, self.row_weights = (
            shares(starts, self.tile, length) for starts, length in ((self.lefts, columns), (self.tops, rows))
        )


def placed(starts: list[int], scale: float, tile: int, length: int) -> tuple[list[int], int]:
    """Where tiles lie on a scaled axis, and how long it is."""
    length = max(length, tile)
    return [min(round(start * scale), length - tile) for start in starts], length


def shares(starts: list[int], tile: int, length: int) -> list[np.ndarray]:
    """Of each tile (tile,) how much it counts along an axis: falling to its edges, all together 1 everywhere."""
    tent = 1 - np.abs(np.linspace(-1, 1, tile + 2, dtype=np.float32)[1:-1])
    total = np.zeros(length, np.float32)
    for start in starts:
        total[start : start + tile] += tent
    return [tent / total[start : start + tile] for start in starts]


__all__ = ["View"]
