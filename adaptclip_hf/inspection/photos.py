"""The photos of a profile: what is known of each beside its features; imports nothing heavy."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from PIL import Image

from ..engine.reference import GRID, TILED, VIEW
from ..engine.tiles import View
from ..processing.image_opening import strips

if TYPE_CHECKING:
    from ..engine import AnomalyScorer

# what a photo is to a profile: good (and not yet drawn), in the bank only, calibrating only, both (leave-one-out), a
# false alarm that was confirmed as good (in the bank), or a defect
GOOD, BANK, CALIBRATION, BOTH, CONFIRMED, DEFECT = "good", "bank", "calibration", "both", "confirmed", "defect"
IN_BANK, CALIBRATING = (BANK, BOTH, CONFIRMED), (CALIBRATION, BOTH)


@dataclass(frozen=True)
class ProfilePhoto:
    """One photo of a profile.

    Attributes:
        name: path or URL, or what kind of thing it was.
        digest: SHA-256 of its pixels.
        size: (height, width).
        role: see above.
        rows: where its tiles' features lie, [first, end).
        score, peak: of the photo and of its map, against the bank without it; 0 before it is scored.
        look: its `MEASURES`; empty in profiles of earlier versions.
        sketch: by which near copies are found (see [`near_copies`]); empty in profiles of earlier versions.
        part: name of the part that it shows, where several photos show one; else `None`.
    """

    name: str
    digest: str
    size: tuple[int, int]
    role: str
    rows: tuple[int, int]
    score: float = 0.0
    peak: float = 0.0
    look: tuple[float, ...] = ()
    sketch: bytes = field(default=b"", repr=False)
    part: str | None = None

    def to_json(self) -> dict:
        """All but the sketch, which lies beside the photos in `profile.json`, and what is not known of a photo."""
        unknown = [name for name, known in (("look", self.look), ("part", self.part is not None)) if not known]
        left_out = ("sketch", *unknown)
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @classmethod
    def from_json(cls, content: dict) -> "ProfilePhoto":
        lists = {name: tuple(content.get(name) or ()) for name in ("size", "rows", "look")}
        return cls(**{**content, **lists})


def made_by(scorer: "AnomalyScorer", object_name: str | None) -> dict:
    """All that a score depends on, besides photo, bank and view; the device is left out."""
    about = scorer.describe(object_name)
    del about["device"]
    return about


def bank_preprocessing(made_by: dict, view: View, photos: Sequence[ProfilePhoto]) -> dict[str, str]:
    """How the tiles of some photos became pixel values, as their bank records it.

    Args:
        made_by: of [`made_by`].
    """
    preprocessing = made_by["preprocessing"] | {VIEW: view.key()}
    if view.by_place:
        preprocessing[GRID] = str(view.tiles(photos[0].size, photos[0].name).grid)
    if any(photo.rows[1] - photo.rows[0] > 1 for photo in photos):
        preprocessing[TILED] = "yes"
    return preprocessing


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 of an RGB image's size and pixels."""
    digest = hashlib.sha256(f"{image.size}".encode())
    for rows in strips(image.height, image.width):  # bytes of a large photo are not made at once
        digest.update(image.crop((0, rows.start, image.width, rows.stop)).tobytes())
    return digest.hexdigest()
