"""Turned copies of images and their tokens, in torch; see [`TurnedCopies`]."""

from collections.abc import Sequence

import torch

from ..modeling.normal_variation import NormalComparison
from ..modeling.precision import full_precision
from ..modeling.prompt_bank import PromptBank
from .augments import ROTATIONS, WHOLE_NUMBERS

Layers = tuple[torch.Tensor, ...]


def turned(pixel_values: torch.Tensor, way: str) -> list[torch.Tensor]:
    """Copies of pixel values (B, 3, S, S): turned by 90, 180 and 270 degrees, or mirrored in each direction.

    A tile or region is turned within itself. An image that is not square is turned as the model sees it, squeezed.
    """
    if way == ROTATIONS:
        return [torch.rot90(pixel_values, quarters, (2, 3)) for quarters in (1, 2, 3)]
    return [pixel_values.flip(axis) for axis in (3, 2)]


@torch.no_grad()
def distance_ratio(own: Sequence[Layers], copies: Sequence[Layers]) -> float:
    """How near images lie to the nearest other one with its copies, as a share of the distance without; layers' mean.

    Args:
        own: of each image, for each layer its tokens (1, L, d).
        copies: of each image, for each layer those of its copies (1, M, d).
    """
    features, added = (tuple(map(torch.cat, zip(*each, strict=True))) for each in (own, copies))
    owners = torch.arange(len(own)).repeat_interleave(added[0].shape[1])
    bank = PromptBank(features, {}, {})
    with_copies = PromptBank(
        features, {}, {}, added=tuple(layer.flatten(0, 1) for layer in added), added_of=(owners,) * len(added)
    )
    without, nearer = (NormalComparison.of(each).variation().mean.mean(-1) for each in (bank, with_copies))
    return float((nearer / without.clamp_min(1e-6)).mean()) if (without > 1e-6).all() else 1.0


@torch.no_grad()
def something_new(own: torch.Tensor, copies: torch.Tensor) -> torch.Tensor:
    """Numbers of the tokens of copies that bring something new: those farthest from the image, as many as it has.

    A token that is nearer to one of the image than the image's patches are to one another (their median) is none. To
    choose greedily, each farthest from those chosen before, takes five times as long and finds no more.

    Args:
        own: unit tokens (L, d) of an image.
        copies: unit tokens (M, d) of its copies.
    """
    own, copies = (full_precision(tokens).mul(WHOLE_NUMBERS).round_() for tokens in (own, copies))
    among = (own @ own.T).fill_diagonal_(-(WHOLE_NUMBERS**2)).amax(1)
    similarity, order = (copies @ own.T).amax(1).sort(stable=True)
    return order[similarity < among.median()][: len(own)]
