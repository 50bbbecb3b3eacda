"""How far a profile's scores move where the model computes in another dtype, measured on some of its own photos."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..engine import AnomalyScorer
from ..engine.scoring import compare
from .calibration import Calibration
from .nearest import ComparedBank
from .pasting import chosen, deciding_score
from .photo_features import own_rows
from .photo_sample import PhotoSample

if TYPE_CHECKING:
    from .profile import InspectionProfile

PHOTOS = 8
DTYPE = "dtype"  # of what made a profile
SMALL = 0.1  # deviations of the good photos' scores by which a score may move


@dataclass(frozen=True)
class Moved:
    """What another dtype does to the scores of a few good photos.

    Attributes:
        photos: how many were looked at.
        largest: of the differences of their scores.
        labels: how many of them have another label.
    """

    photos: int
    largest: float
    labels: int

    def is_small(self, calibration: Calibration) -> bool:
        """Whether scores move far less than good photos differ."""
        return self.largest <= SMALL * float(calibration.scores.std())


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
    text_embeds = other.encode_text(profile.object_name)
    threshold, largest, labels = profile.calibration.threshold, 0.0, 0
    for photo in photos:
        tile, pixel_values = sample.tiles[photo.digest]
        row = photo.rows[0] + tile.number
        stored = profile.features.on(scorer, slice(row, row + 1))
        reference = compared_bank.for_tile(tile, own_rows(profile.features.photos, photo))
        bank = reference.prompt_bank
        assert bank is not None
        bank = bank.to(other.device, other.model.dtype)
        in_other = replace(reference, prompt_bank=bank, text_embeds=text_embeds)
        [before] = compare(scorer.model, stored, [tile], [reference])
        [after] = compare(other.model, other.encode(pixel_values), [tile], [in_other])
        scores = [deciding_score(profile, tile, each) for each in (before, after)]
        largest = max(largest, abs(scores[0] - scores[1]))
        labels += (scores[0] > threshold) != (scores[1] > threshold)
    return {other.dtype: Moved(len(photos), largest, labels)}


def dtype_error(there: str, here: str, moved: Moved | None, exactly: bool) -> str:
    """Why a profile is not used with a model in another dtype, and what to do.

    Args:
        exactly: its photos are to be compared with others.
    """
    if exactly:
        why = "its photos and those that are added must be alike"
    elif moved is None:
        why = "how far its scores move then was not measured when it was made"
    else:
        why = f"on {moved.photos} of its photos scores move by up to {moved.largest:.2g} then, which is too much"
    return (
        f"This profile was made in {there}, and the model computes in {here}: {why}. Say --dtype {there} "
        f"(dtype={there!r} in Python), or fit a new profile in {here}."
    )
