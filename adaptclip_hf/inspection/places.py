"""Whether photos that are cut into tiles lie alike, so that each tile need only be compared with those at its place."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..engine import View
from ..engine.tiles import AUTO, ONLY
from ..modeling.normal_variation import nearest_distances
from ..modeling.prompt_query_adapter import unit_patch_tokens
from ..reporting import Report
from .audit import good_photos
from .fit_settings import FitSettings
from .photo_features import PhotoFeatures
from .photos import ProfilePhoto

MOST_PHOTOS, MOST_PLACES = 6, 24  # that are looked at
FEWEST_PHOTOS = 4
EVERY = 5  # token of a tile: enough to tell one place from another
AS_NEAR = 1.05  # times the distance of the nearest place: such places show the same
LIE_ALIKE = 0.75  # of the tiles have their nearest normal tile at their own place


def settled(view: View, features: PhotoFeatures, settings: FitSettings, report: Report) -> View:
    """The view with "auto" decided by the good photos: each tile is compared with those of its own place where photos
    lie alike, and with all elsewhere.

    Args:
        report: called with a line for people if photos are cut into tiles.
    """
    if view.same_place != AUTO:
        return view
    anywhere, photos = replace(view, same_place=False), good_photos(features.photos)
    grids = {view.tiles(photo.size, photo.name).grid for photo in features.photos}
    [first, *_] = grids
    if len(grids) > 1 or first == (1, 1) or len(photos) < FEWEST_PHOTOS:
        return anywhere
    if settings.bank_size is not None or features.added.tensors:  # chosen tiles, and turned ones, have no place
        return anywhere
    share = own_place_share(features, photos)
    told = f"{share:.0%} of the good photos' tiles are nearest to those at their own place"
    if share < LIE_ALIKE:
        report(f"{told}: each tile is compared with tiles of all places")
        return anywhere
    report(f"{told}: each tile is compared with those alone, and photos of another size are refused")
    return replace(view, same_place=ONLY)


@torch.no_grad()
def own_place_share(features: PhotoFeatures, photos: Sequence[ProfilePhoto]) -> float:
    """The share of some photos' tiles to which no place of the other photos is clearly nearer than their own.

    A place is as near as its nearest tile: the mean distance of some tokens to the nearest ones of some, over layers.
    """
    tiles = photos[0].rows[1] - photos[0].rows[0]
    places = torch.linspace(0, tiles - 1, min(tiles, MOST_PLACES)).round().long().tolist()
    some = torch.linspace(0, len(photos) - 1, min(len(photos), MOST_PHOTOS)).round().long().tolist()
    rows = [photos[number].rows[0] + place for number in some for place in places]
    layers = [unit_patch_tokens(layer.float())[:, ::EVERY] for layer in features.unpacked(rows).patch_embeds]
    near = torch.stack([mean_distances(layer) for layer in layers]).mean(0)
    near = near.view(len(some), len(places), len(some), len(places))
    near[range(len(some)), :, range(len(some))] = torch.inf  # a photo is not compared with itself
    nearest = near.amin(2)  # (photos, places, places)
    own = nearest.diagonal(dim1=1, dim2=2)
    return float((own <= AS_NEAR * nearest.amin(2)).float().mean())


def mean_distances(tiles: torch.Tensor) -> torch.Tensor:
    """(R, R) of tiles' unit tokens (R, L, d): the mean distance of each one's tokens to the nearest of each other."""
    return torch.stack([nearest_distances(tiles, other).mean(1) for other in tiles], 1)
