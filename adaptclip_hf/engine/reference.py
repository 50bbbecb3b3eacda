"""What photos are scored against, opened and checked once."""

from dataclasses import dataclass, field
from pathlib import Path

from ..modeling.checks import needs_the_package
from ..modeling.prompt_bank import PromptBank
from ..modeling.text_encoder import TextEmbeds
from .view import Pieces, View

# of what a bank records, beside the preprocessing
VIEW, GRID = "view", "grid"


@dataclass(frozen=True, eq=False)
class Reference:
    """All that a photo's result depends on beside the photo and the model; see [`AnomalyDetector.reference`].

    Attributes:
        text_embeds: of the object's name.
        view: how photos are looked at, as the bank's were.
        prompt_bank: on the model's device; `None` for zero-shot.
        threshold: in [0, 1]; sets labels.
        profile: decides, in its place.
    """

    text_embeds: TextEmbeds = field(repr=False)
    view: View
    prompt_bank: PromptBank | None = field(default=None, repr=False)
    threshold: float | None = None
    profile: "InspectionProfile | None" = field(default=None, repr=False)  # noqa: F821


def open_profile(profile, detector, *others):
    """An inspection profile, read if it is a folder or Hub id, and checked against the detector.

    Args:
        others: what a call gives beside it and the profile holds itself; all of them `None`.

    Raises:
        FileNotFoundError: no such folder or repository.
        ValueError: it was made with another model, and names what differs; or something is given beside it.
    """
    if any(each is not None for each in others):
        raise ValueError("A profile holds its bank, object name, threshold and view: give it alone.")
    if isinstance(profile, str | Path):
        try:
            from adaptclip_hf.inspection import InspectionProfile
        except ImportError as error:
            raise needs_the_package("profile") from error
        profile = InspectionProfile.from_pretrained(profile)
    profile.require_match(detector)
    return profile


def require_one_grid(view: View, grids: dict[tuple[int, int], str]):
    """Refuses normal photos of several sizes where each place is compared with its own.

    Args:
        grids: (rows, columns) of tiles -> the first photo that has them.
    """
    if view.same_place and len(grids) > 1:
        (one, its_photo), (other, another) = list(grids.items())[:2]
        raise ValueError(
            f"{another} is cut into {other[0]} x {other[1]} tiles and {its_photo} into {one[0]} x {one[1]}: to compare "
            "each place with its own, all photos must have one size."
        )


def require_same_grid(bank: PromptBank | None, pieces: Pieces, name: str):
    """Refuses a photo that is cut into other places than the normal ones, where each is compared with its own."""
    if bank is not None and pieces.view.same_place and bank.preprocessing.get(GRID) != str(pieces.grid):
        raise ValueError(
            f"{name} is cut into {pieces.grid} rows and columns of tiles, the normal ones into "
            f"{bank.preprocessing.get(GRID)}: to compare each place with its own, all photos must have one size."
        )


def at_place(bank: PromptBank | None, pieces: Pieces, number: int) -> PromptBank | None:
    """What a piece is compared with: the bank, or of it the pieces at and beside its place.

    Raises:
        ValueError: the normal photos were cut into other pieces.
    """
    if bank is None or not pieces.view.same_place:
        return bank
    require_same_grid(bank, pieces, "a photo")
    tiles = len(pieces)
    places = pieces.neighbours(number)
    return bank.select([first + place for first in range(0, len(bank), tiles) for place in places])
