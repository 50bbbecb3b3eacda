"""Which part of an image is looked at, and the tiles that it is cut into."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
from PIL import Image

from ..processing.image_loading import to_numpy
from ..processing.image_opening import BIT_DEPTHS
from ..processing.map_sizes import resize_map
from ..processing.pixel_values import CLIP_MEAN

AUTO, WHOLE = "auto", "whole"
ONLY = "only"  # the tile's own place, without those beside it
LONGEST_WHOLE = 2  # times its short side; a longer image is cut into squares
SMALLEST_TILE = 32  # pixels
OVERLAP = 0.25
# the colour of hidden pixels, which the encoder sees as zero
HIDDEN = tuple(round(255 * value) for value in CLIP_MEAN)

Box = tuple[int, int, int, int]  # left, top, width, height in pixels


@dataclass(frozen=True, eq=False)
class View:
    """How images are looked at, normal ones and queries alike.

    Attributes:
        tile: "auto": whole, but an image more than twice as long as high in squares of its short side; "whole": always,
            squeezed into a square, as in the paper; or the side of a tile in the image's pixels.
        overlap: of neighbouring tiles, at least; share of a tile's side, 0 to 0.75.
        same_place: which normal tiles each tile is compared with. `True`: those of its place and the places beside it,
            for parts that always lie alike; "only": those of its place alone, which is as many times faster as there
            are places beside it; `False`: all, in a profile the 64 that represent all best. Of "auto" a profile makes
            "only" where its good photos lie alike and `False` elsewhere; without a profile it means `False`. Where the
            place matters all images must have the same number of tiles.
        region: the part to look at, (left, top, width, height) in the image's pixels; by default the whole image.
        ignore: (H, W) booleans of the image's size, true where not to look.
        bit_depth: the bits that the camera's values use in 16-bit grey images, 8 to 16; by default what each file says,
            or all 16. Other images are read as they are.

    NumPy's numbers become Python's, and lists tuples.

    Raises:
        ValueError: a value out of range or of another kind, named.
    """

    tile: int | str = AUTO
    overlap: float = OVERLAP
    same_place: bool | str = AUTO
    region: Box | None = None
    ignore: np.ndarray | None = field(default=None, repr=False)
    bit_depth: int | None = None

    def __post_init__(self):
        for name in ("tile", "overlap", "same_place", "region", "ignore", "bit_depth"):
            object.__setattr__(self, name, getattr(self, f"_checked_{name}")(getattr(self, name)))

    @staticmethod
    def _checked_tile(tile: Any) -> int | str:
        if isinstance(tile, str) and tile in (AUTO, WHOLE):
            return str(tile)
        if not is_whole(tile) or tile < SMALLEST_TILE:
            raise ValueError(
                f"Expected a tile of at least {SMALLEST_TILE} pixels, {AUTO!r} or {WHOLE!r}, got {tile!r}."
            )
        return int(tile)

    @staticmethod
    def _checked_overlap(overlap: Any) -> float:
        if not isinstance(overlap, Real) or isinstance(overlap, bool) or not 0 <= float(overlap) <= 0.75:
            raise ValueError(f"Expected an overlap between 0 and 0.75, got {overlap!r}.")
        return 0 if is_whole(overlap) else float(overlap)  # as banks of earlier versions have it

    @staticmethod
    def _checked_same_place(same_place: Any) -> bool | str:
        if isinstance(same_place, str) and same_place in (AUTO, ONLY):
            return str(same_place)
        if not isinstance(same_place, bool | np.bool_):
            raise ValueError(f"Expected same_place to be True, False, {AUTO!r} or {ONLY!r}, got {same_place!r}.")
        return bool(same_place)

    @staticmethod
    def _checked_region(region: Any) -> Box | None:
        if region is None:
            return None
        values = list(region) if isinstance(region, list | tuple | np.ndarray) else []
        if len(values) != 4 or not all(map(is_whole, values)) or min(values) < 0 or min(values[2:]) < 1:
            raise ValueError(f"Expected a region of left, top, width and height in whole pixels, got {region!r}.")
        left, top, width, height = map(int, values)
        return left, top, width, height

    @staticmethod
    def _checked_ignore(ignore: Any) -> np.ndarray | None:
        if ignore is None:
            return None
        mask = to_numpy(ignore)
        if mask.dtype != bool or mask.ndim != 2:
            raise ValueError(
                f"Expected a mask of where not to look as booleans (H, W), got {mask.dtype} of shape {mask.shape}; "
                "`mask > 0` makes booleans, and load_mask reads a file."
            )
        if mask.all():
            raise ValueError("The mask of where not to look covers everything: nothing is left to look at.")
        return mask

    @staticmethod
    def _checked_bit_depth(bit_depth: Any) -> int | None:
        if bit_depth is not None and (not is_whole(bit_depth) or bit_depth not in BIT_DEPTHS):
            raise ValueError(f"Expected a bit_depth of {BIT_DEPTHS[0]} to {BIT_DEPTHS[-1]}, got {bit_depth!r}.")
        return None if bit_depth is None else int(bit_depth)

    @property
    def by_place(self) -> bool:
        """Whether each tile is compared with normal ones of its place."""
        return self.same_place in (True, ONLY)

    def key(self) -> str:
        """The view as text, by which banks of other views are told apart; a mask by its digest."""
        mask = None if self.ignore is None else hashlib.sha256(np.packbits(self.ignore).tobytes()).hexdigest()[:16]
        key = [self.tile, self.overlap, self.by_place and self.same_place, self.region and list(self.region), mask]
        return json.dumps(key if self.bit_depth is None else [*key, self.bit_depth])

    def tiles(self, size: tuple[int, int], name: str) -> "Tiles":
        """The tiles of an image.

        Args:
            size: (height, width) of the image.
            name: of the image, for errors.

        Raises:
            ValueError: the region lies outside the image, or the mask has another size; names the image.
        """
        image = f"{name} has {size[1]}x{size[0]} pixels"
        if self.ignore is not None and self.ignore.shape != size:
            height, width = self.ignore.shape
            raise ValueError(f"{image}, the mask of where not to look {width}x{height}: expected the same.")
        left, top, width, height = self.region or (0, 0, size[1], size[0])
        if left + width > size[1] or top + height > size[0]:
            raise ValueError(f"{image}: the region of {width}x{height} at ({left}, {top}) lies outside.")
        side = self._side(width, height)
        if side is None:
            columns, rows, sides = [0], [0], (width, height)
        else:
            columns, rows = (self._starts(length, side) for length in (width, height))
            sides = (side, side)
        return Tiles(self, name, size, (left, top, width, height), columns, rows, sides)

    def _side(self, width: int, height: int) -> int | None:
        """The side of a tile, or `None` where the image is one tile."""
        short, long = sorted((width, height))
        too_long = self.tile != WHOLE and long > LONGEST_WHOLE * short
        too_large = isinstance(self.tile, int) and long > self.tile
        if not too_long and not too_large:
            return None
        return min(self.tile, short) if isinstance(self.tile, int) else short

    def _starts(self, length: int, side: int) -> list[int]:
        """Where tiles begin along an axis: at even distances, with at least the overlap that was asked for."""
        count = math.ceil((length - side) / (side * (1 - self.overlap))) + 1
        return np.linspace(0, length - side, count).round().astype(int).tolist()


@dataclass(frozen=True, eq=False)
class Tiles:
    """Where the tiles of one image lie, row by row; an image that is not cut is one tile.

    Attributes:
        view: that cut it.
        name: of the image, for errors.
        size: (height, width) of the image.
        region: the part that is looked at.
        columns, rows: where the tiles begin, from the region's corner.
        side: (width, height) of a tile.
    """

    view: View
    name: str
    size: tuple[int, int]
    region: Box
    columns: list[int]
    rows: list[int]
    side: tuple[int, int]

    def __len__(self) -> int:
        return len(self.columns) * len(self.rows)

    def __iter__(self) -> Iterator["Tile"]:
        return (Tile(self, number) for number in range(len(self)))

    def crops(self, image: Image.Image) -> Iterator[Image.Image]:
        """The tiles' pixels, one tile after the other; what the view ignores is hidden."""
        ignore = self.view.ignore
        if ignore is not None:
            image = image.copy()
            image.paste(HIDDEN, mask=Image.fromarray(ignore))
        if len(self) == 1 and self.region == (0, 0, *image.size):
            yield image
            return
        for tile in self:
            left, top, width, height = tile.box
            yield image.crop((left, top, left + width, top + height))

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return len(self.rows), len(self.columns)


@dataclass(frozen=True)
class Tile:
    """One of an image's tiles, by its number."""

    tiles: Tiles
    number: int

    @property
    def box(self) -> Box:
        """Where it lies in the image."""
        tiles = self.tiles
        row, column = divmod(self.number, len(tiles.columns))
        return tiles.region[0] + tiles.columns[column], tiles.region[1] + tiles.rows[row], *tiles.side

    def neighbours(self) -> list[int]:
        """The numbers of the tiles at its place and beside it."""
        rows, columns = self.tiles.grid
        row, column = divmod(self.number, columns)
        beside = [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        return [down * columns + right for down, right in beside if 0 <= down < rows and 0 <= right < columns]


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python's or NumPy's types."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


class TileMerger:
    """Merges the scores and maps of an image's tiles: the highest score, and the maps blended where tiles overlap.

    The map stays as fine as the model sees. A tile larger than the model's input makes the whole map smaller than the
    region; [`DetectionResult.anomaly_map`] brings it to the image's size.
    """

    def __init__(self, tiles: Tiles):
        self.tiles, self.score = tiles, 0.0
        self._appearances: list[np.ndarray] = []
        self.map = np.zeros((0, 0), np.float32)
        self.nearest: int | None = None  # place in the bank of the image that is most like this one

    def add(self, number: int, score: float, model_map: np.ndarray):
        """Adds the score and the map (S, S) of a tile."""
        self.score = max(self.score, score)
        if len(self.tiles) == 1:
            self.map = model_map
            return
        if not self.map.size:
            self._begin(model_map.shape[0])
        row, column = divmod(number, len(self.tiles.columns))
        top, left, side = self.tops[row], self.lefts[column], self.side
        weights = self.row_weights[row][:, None] * self.column_weights[column][None]
        self.map[top : top + side, left : left + side] += resize_map(model_map, (side, side)) * weights

    def see(self, appearance: np.ndarray):
        """Adds how a tile looks (see [`appearance_of`])."""
        self._appearances.append(appearance)

    @property
    def appearance(self) -> np.ndarray | None:
        """How the image looks, the mean over its tiles; `None` where no tile was seen."""
        return np.stack(self._appearances).mean(0, dtype=np.float32) if self._appearances else None

    def _begin(self, map_side: int):
        width, height = self.tiles.region[2:]
        scale = min(1.0, map_side / self.tiles.side[0])
        self.side = round(self.tiles.side[0] * scale)
        self.lefts, columns = scaled_starts(self.tiles.columns, scale, self.side, round(width * scale))
        self.tops, rows = scaled_starts(self.tiles.rows, scale, self.side, round(height * scale))
        self.map = np.zeros((rows, columns), np.float32)
        self.column_weights, self.row_weights = (
            blending_weights(starts, self.side, length) for starts, length in ((self.lefts, columns), (self.tops, rows))
        )


def scaled_starts(starts: list[int], scale: float, tile: int, length: int) -> tuple[list[int], int]:
    """Where tiles begin on a scaled axis, and the length of the axis."""
    length = max(length, tile)
    return [min(round(start * scale), length - tile) for start in starts], length


def blending_weights(starts: list[int], tile: int, length: int) -> list[np.ndarray]:
    """For each tile its weights (tile,) along an axis: they fall towards its edges, and all add up to 1 everywhere."""
    tent = 1 - np.abs(np.linspace(-1, 1, tile + 2, dtype=np.float32)[1:-1])
    total = np.zeros(length, np.float32)
    for start in starts:
        total[start : start + tile] += tent
    return [tent / total[start : start + tile] for start in starts]


__all__ = ["View"]
