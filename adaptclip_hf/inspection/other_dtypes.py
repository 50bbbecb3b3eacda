"""How far a profile's scores move where the model computes in another dtype, measured on some of its own photos."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..engine import AnomalyScorer
from ..engine.scoring import compare
from .moved_scores import Moved
from .nearest import ComparedBank
from .pasting import chosen, compared, deciding_score
from .photo_features import PhotoFeatures, own_rows
from .photo_sample import PhotoSample

if TYPE_CHECKING:
    from .profile import InspectionProfile

PHOTOS = 8


def other_dtypes(
    scorer: AnomalyScorer, profile: "InspectionProfile", sample: PhotoSample, compared_bank: ComparedBank
) -> Mapping[str, Moved]:
    """Scores a few of the sampled photos in the dtype that the profile is likely to be used with beside its own.

    Args:
        compared_bank: the profile's bank.
    """
    photos = chosen(profile, sample)[:PHOTOS]
    other = scorer.in_another_dtype() if photos else None
    if other is None:
        return {}
    features = profile.features
    assert isinstance(features, PhotoFeatures)
    text_embeds = other.encode_text(profile.object_name)
    differences, labels, threshold = [], 0, profile.calibration.threshold
    for photo in photos:
        tile, pixel_values = sample.tiles[photo.digest]
        row = photo.rows[0] + tile.number
        stored = features.on(scorer, slice(row, row + 1))
        left_out = own_rows(features.photos, photo)
        # as the thresholds were found, and as the other model finds what is nearest
        reference = compared_bank.for_photo(photo.rows, left_out) or compared_bank.for_tile(tile, left_out)
        search = compared_bank.near_photo(features, photo.rows, tile, left_out)
        [before] = compare(scorer.model, stored, [tile], [reference])
        [after] = compared(other, other.encode(pixel_values), tile, search, text_embeds)
        own, others = (deciding_score(profile, tile, each) for each in (before, after))
        differences.append(others - own)
        labels += (own > threshold) != (others > threshold)
    mean = sum(differences) / len(photos)
    return {other.dtype: Moved(len(photos), max(map(abs, differences)), mean, labels)}
