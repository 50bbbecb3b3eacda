"""How normal images differ from one another, as the engine looks at them: whole, or cut into tiles."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..modeling.normal_variation import NormalComparison, NormalVariation, unknown_variation
from ..modeling.precision import full_precision
from ..modeling.prompt_bank import PromptBank
from .contract import ScoringModel
from .reference import GRID, TILED, PreparedReference
from .tiles import View


def tiles_of(bank: PromptBank, view: View) -> int:
    """How many tiles of the bank an image has: one of whole images, and where each tile has its place; 0 otherwise."""
    if TILED not in bank.preprocessing:
        return 1
    if not view.same_place:
        return 0
    rows, columns = bank.preprocessing[GRID].strip("()").split(",")
    return int(rows) * int(columns)


def compare_normals(model: ScoringModel, bank: PromptBank, view: View) -> tuple[NormalComparison, ...]:
    """The bank's images compared with one another, tile by tile at its place; empty where scores do not use it."""
    if not model.config.normal_variation:
        return ()
    tiles = tiles_of(bank, view)
    plain = replace(bank, variation=None)
    if tiles == 1:
        return (NormalComparison.of(plain),)
    return tuple(NormalComparison.of(plain.select(range(tile, len(bank), tiles))) for tile in range(tiles))


def knowing_variations(model: ScoringModel, reference: PreparedReference) -> PreparedReference:
    """The reference that knows how its images differ from one another, if scores use it: found now if its bank has not
    kept it."""
    bank = reference.prompt_bank
    if not model.config.normal_variation or bank is None or bank.variation is not None:
        return reference
    return with_variations(reference, compare_normals(model, bank, reference.reference.view))


def with_variations(
    reference: PreparedReference, comparisons: Sequence[NormalComparison], images: Sequence[int] | None = None
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
    if view.same_place:
        return replace(reference, variations=tuple(each.variation(images) for each in comparisons))
    return replace(reference, prompt_bank=replace(bank, variation=scaled_alike(bank)))


def scaled_alike(bank: PromptBank) -> NormalVariation:
    """Of tiles that are compared with those of all places: which differ by their place is not known."""
    whole = torch.stack([full_precision(layer).mean(1) for layer in bank.features], 1)
    return unknown_variation(whole, bank.features[0].shape[1])
