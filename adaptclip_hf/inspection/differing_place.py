"""Where good photos differ most from one another."""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.ndimage import label

from ..engine import AnomalyScorer
from .nearest import ComparedBank
from .pasted_defects import Place
from .photo_features import PhotoFeatures, own_rows, result_of_photo
from .photos import ProfilePhoto

GRID = 12  # cells along each side
MOST_TILES = 64  # whose maps are looked at
FEWEST_PHOTOS = 3
STANDS_OUT = 1.3  # times the median


def differing_place(
    scorer: AnomalyScorer, features: PhotoFeatures, photos: Sequence[ProfilePhoto], bank: ComparedBank
) -> Place | None:
    """The place where the maps of good photos are highest on average.

    Args:
        photos: each is looked at beside the bank without it.

    Returns:
        `None` if the maps are much the same everywhere, or there are too few photos or too many tiles.
    """
    tiles = max(photo.rows[1] - photo.rows[0] for photo in photos)
    looked = photos[: MOST_TILES // tiles]
    if len(looked) < FEWEST_PHOTOS:
        return None
    owns = [own_rows(features.photos, photo) for photo in looked]
    against = [bank.for_photo(photo.rows, own) or bank.without(own) for photo, own in zip(looked, owns, strict=True)]
    results = (result_of_photo(scorer, features, *each) for each in zip(looked, against, strict=True))
    grids = np.stack([coarse(result.model_map) for result in results])
    mean = grids.mean(0)
    median, peak = float(np.median(mean)), float(mean.max())
    if peak <= STANDS_OUT * median:
        return None
    parts, _ = label(mean >= (median + peak) / 2)
    rows, columns = np.nonzero(parts == parts[np.unravel_index(mean.argmax(), mean.shape)])
    top, left = int(rows.min()), int(columns.min())
    height, width = int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
    inside = grids[:, top : top + height, left : left + width].max((1, 2)) == grids.max((1, 2))
    x, y, across, down = (round(100 * each / GRID, 1) for each in (left, top, width, height))
    return Place((x, y, across, down), round(peak / max(median, 1e-6), 3), len(looked), int(inside.sum()))


def coarse(model_map: np.ndarray) -> np.ndarray:
    """The means of a map (H, W) on a coarse grid."""
    shrunk = Image.fromarray(model_map.astype(np.float32)).resize((GRID, GRID), Image.Resampling.BOX)
    return np.asarray(shrunk)
