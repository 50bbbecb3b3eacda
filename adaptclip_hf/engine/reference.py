"""What images are scored against, and how the score is decided."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..processing.thresholds import label_of, margin_of
from .result import DetectionResult
from .tiles import ONLY, Tile, Tiles, View

if TYPE_CHECKING:
    from ..modeling.normal_variation import NormalVariation
    from ..modeling.prompt_bank import PromptBank
    from ..modeling.text_encoder import TextEmbeds
    from .scorer import AnomalyScorer

# what a bank records besides the preprocessing
VIEW, GRID, TILED = "view", "grid", "tiled"
GIVE_ALONE = "A profile holds its bank, object name, threshold and view: give it alone."


class Reference(ABC):
    """All that a result depends on, besides the image and the model. It can be pickled.

    Attributes:
        variations: of the normal tiles at each place, where they were found before.
    """

    variations: "tuple[NormalVariation, ...]" = ()

    if TYPE_CHECKING:  # each kind of reference has these as fields or properties

        @property
        def prompt_bank(self) -> "PromptBank | None":
            """Normal images; `None` for zero-shot."""

        @property
        def object_name(self) -> str | None:
            """The word for the object in the static prompts; `None` for the model's own."""

        @property
        def view(self) -> View:
            """How images are looked at, as the bank's were."""

        @property
        def text_embeds(self) -> "TextEmbeds | None":
            """Embeddings of the object's name, where they were encoded before."""

        @property
        def needs_appearance(self) -> bool:
            """Whether it decides by how an image looks as a whole too, beside its score and map."""

    @abstractmethod
    def decide(self, result: DetectionResult) -> DetectionResult:
        """The result with its label, and whatever else the reference knows about it."""

    def place_of(self, score: float) -> str:
        """Words for people that say more of a score; none by default."""
        return ""

    def normal_name(self, place: int | None) -> str | None:
        """The name of a normal image by its place in the bank; `None` where it is not known."""
        return None

    @abstractmethod
    def require_match(self, scorer: "AnomalyScorer"):
        """Raises a ValueError that names what differs, where another model or preprocessing made the reference."""

    @abstractmethod
    def record(self) -> dict:
        """What a run stores of it with its results, as JSON values."""


def times_the_threshold(margin: float | None) -> str:
    return "" if margin is None else f"{margin:.2f} x threshold"


@dataclass(frozen=True, eq=False)
class PlainReference(Reference):
    """A reference of single values.

    Attributes:
        threshold: in [0, 1]; a score above it is labelled anomalous. There are no labels without it.
        needs_appearance: results tell how an image looks as a whole, for who decides later.
    """

    prompt_bank: "PromptBank | None" = field(default=None, repr=False)
    object_name: str | None = None
    view: View = field(default_factory=View)
    threshold: float | None = None
    text_embeds: "TextEmbeds | None" = field(default=None, repr=False)
    needs_appearance: bool = False

    def decide(self, result: DetectionResult) -> DetectionResult:
        if self.threshold is None:
            return result
        label, margin = label_of(result.score, self.threshold), margin_of(result.score, self.threshold)
        return replace(result, label=label, margin=margin)

    def place_of(self, score: float) -> str:
        return times_the_threshold(margin_of(score, self.threshold))

    def require_match(self, scorer: "AnomalyScorer"):
        if self.prompt_bank is not None:
            scorer.require_match(self.prompt_bank, self.view)

    def record(self) -> dict:
        return {
            "normal_images": None if self.prompt_bank is None else self.prompt_bank.digest(),
            "threshold": self.threshold,
            "profile": None,
            "view": self.view.key(),
        }


@dataclass(frozen=True, eq=False)
class PreparedReference:
    """A reference that is checked and ready for one model; see [`AnomalyScorer.prepare`].

    Attributes:
        prompt_bank: on the model's device; `None` for zero-shot.
        text_embeds: of the object's name.
        variations: of the normal tiles at each place where images are cut into tiles, or one for all places; empty for
            whole images, whose bank has its own.
        places: the bank of the tiles at each place, in the order in which it is searched fastest; empty where that is
            not made ready, or each tile is compared with all.
    """

    reference: Reference
    prompt_bank: "PromptBank | None" = field(repr=False)
    text_embeds: "TextEmbeds" = field(repr=False)
    variations: "tuple[NormalVariation, ...]" = field(default=(), repr=False)
    places: "tuple[PromptBank, ...]" = field(default=(), repr=False)


def require_one_grid(view: View, grids: dict[tuple[int, int], str]):
    """Refuses normal images of several sizes where each tile is compared with those at its own place.

    Args:
        grids: (rows, columns) of tiles -> the first image that has them.
    """
    if view.by_place and len(grids) > 1:
        (one, its_image), (other, another) = list(grids.items())[:2]
        raise ValueError(
            f"{another} is cut into {other[0]} x {other[1]} tiles and {its_image} into {one[0]} x {one[1]}: to compare "
            "each place with its own, all images must have one size."
        )


def require_same_grid(reference: PreparedReference, tiles: Tiles):
    """Refuses an image with another grid than the normal ones, where each tile is compared with those at its place."""
    bank = reference.prompt_bank
    if bank is not None and reference.reference.view.by_place and bank.preprocessing.get(GRID) != str(tiles.grid):
        raise ValueError(
            f"{tiles.name} is cut into {tiles.grid} rows and columns of tiles, the normal ones into "
            f"{bank.preprocessing.get(GRID)}: to compare each place with its own, all images must have one size."
        )


def bank_for(reference: PreparedReference, tile: Tile) -> "PromptBank | None":
    """What a tile is compared with: the bank, or the bank's tiles at its place, with or without those beside it.

    Raises:
        ValueError: the images of the bank have another grid.
    """
    bank, view = reference.prompt_bank, reference.reference.view
    if bank is None or not view.by_place:
        return bank
    require_same_grid(reference, tile.tiles)
    if len(tile.tiles) == 1:
        return bank
    # all images of the bank have the grid of this one
    variation = reference.variations[tile.number] if reference.variations else None
    if reference.places:
        bank = replace(reference.places[tile.number], variation=variation)
        beside = [] if view.same_place == ONLY else set(tile.neighbours()) - {tile.number}
        return bank.searched_with([reference.places[each] for each in beside]) if beside else bank
    if view.same_place == ONLY:
        return replace(at_place(bank, tile.number, len(tile.tiles)), variation=variation)
    rows = [first + each for first in range(0, len(bank), len(tile.tiles)) for each in tile.neighbours()]
    return bank.select(rows, variation)


def at_place(bank: "PromptBank", place: int, tiles: int) -> "PromptBank":
    """The bank of the tiles at one place, without a copy.

    Args:
        bank: its images have so many tiles each, one image after the other, and no turned copies.
    """
    return replace(bank, features=tuple(layer[place::tiles] for layer in bank.features), variation=None)
