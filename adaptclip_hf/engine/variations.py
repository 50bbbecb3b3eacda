"""How normal images differ from one another, as the engine looks at them: whole, or cut into tiles."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from .contract import ScoringModel, arrays_of
from .reference import GRID, TILED, PreparedReference, at_place
from .tiles import ONLY, View

AROUND = 9  # places that a tile is compared with: its own and those beside it

if TYPE_CHECKING:
    from ..modeling.normal_variation import NormalComparison
    from ..modeling.prompt_bank import PromptBank


def tiles_of(bank: "PromptBank", view: View) -> int:
    """How many tiles of the bank an image has: one of whole images, and where each tile has its place; 0 otherwise."""
    if TILED not in bank.preprocessing:
        return 1
    if not view.by_place:
        return 0
    rows, columns = bank.preprocessing[GRID].strip("()").split(",")
    return int(rows) * int(columns)


def compare_normals(
    model: ScoringModel, bank: "PromptBank", view: View, progress: bool = False
) -> "tuple[NormalComparison, ...]":
    """The bank's images compared with one another, tile by tile at its place; empty where scores do not use it.

    Args:
        progress: show a bar where there are several places.
    """
    if not model.config.normal_variation:
        return ()
    tiles = tiles_of(bank, view)
    plain = replace(bank, variation=None)
    if tiles == 1:
        return (arrays_of(bank).compare(plain),)
    places = tqdm(range(tiles), desc="comparing", unit="place", disable=not (progress and tiles))
    return tuple(arrays_of(bank).compare(at_place(plain, place, tiles)) for place in places)


def knowing_variations(
    model: ScoringModel, reference: PreparedReference, comparisons: "Sequence[NormalComparison] | None" = None
) -> PreparedReference:
    """The reference that knows how its images differ from one another, if scores use it: found now if its bank has not
    kept it.

    Args:
        comparisons: of its bank's images, where they were compared before.
    """
    bank = reference.prompt_bank
    if not model.config.normal_variation or bank is None or bank.variation is not None or reference.variations:
        return reference
    if comparisons is None:
        comparisons = compare_normals(model, bank, reference.reference.view)
    return with_variations(reference, comparisons)


def ready_to_search(reference: PreparedReference) -> PreparedReference:
    """The reference whose bank is in the order in which it is searched fastest.

    Tokens of turned copies lie among those of the images, so that no score must join them, and many are in groups.
    """
    bank, view = reference.prompt_bank, reference.reference.view
    if bank is None:
        return reference
    if view.by_place and (tiles := tiles_of(bank, view)) > 1:
        together = 1 if view.same_place == ONLY else AROUND
        places = tuple(at_place(bank, place, tiles).in_groups(together) for place in range(tiles))
        return replace(reference, places=places if all(each.grouped for each in places) else ())
    if bank.added is not None:
        bank = replace(bank, features=bank.blocks(), added=None, added_of=None)
    return replace(reference, prompt_bank=bank.in_groups())


def with_variations(
    reference: PreparedReference, comparisons: "Sequence[NormalComparison]", images: Sequence[int] | None = None
) -> PreparedReference:
    """The reference that knows how its images differ from one another.

    Args:
        reference: its bank is that of these images.
        comparisons: of [`compare_normals`], of a bank that has these images.
        images: their numbers in that bank; all by default.
    """
    bank, view = reference.prompt_bank, reference.reference.view
    assert bank is not None
    if TILED not in bank.preprocessing:
        [comparison] = comparisons
        return replace(reference, prompt_bank=replace(bank, variation=comparison.variation(images)))
    if view.by_place:
        return replace(reference, variations=tuple(each.variation(images) for each in comparisons))
    return replace(reference, prompt_bank=replace(bank, variation=arrays_of(bank).scaled_alike(bank)))
