"""Turned or mirrored copies of normal images, of parts that lie on the line in any direction.

A copy is compared with as one more view of its image. Many of its patches are in the image itself: of all copies of an
image those tokens are kept that are farthest from its own, at most as many as these.
"""

from collections.abc import Callable, Sequence

import torch

from ..modeling.normal_variation import NormalComparison
from ..modeling.precision import full_precision
from ..modeling.prompt_bank import PromptBank
from ..modeling.prompt_query_adapter import unit_patch_tokens
from .augments import AUTO, NONE, ROTATIONS, ignored, require_augment
from .contract import ScoringModel
from .scoring import TileInput, encode
from .tiles import View

DECIDING = 8  # images that "auto" decides by, the first ones
NEARER = 0.9  # of the distances of these images to one another: what turned copies must bring them to


Layers = tuple[torch.Tensor, ...]


def turned(pixel_values: torch.Tensor, way: str) -> list[torch.Tensor]:
    """Copies of pixel values (B, 3, S, S): turned by 90, 180 and 270 degrees, or mirrored in each direction.

    A tile or region is turned within itself. An image that is not square is turned as the model sees it, squeezed.
    """
    if way == ROTATIONS:
        return [torch.rot90(pixel_values, quarters, (2, 3)) for quarters in (1, 2, 3)]
    return [pixel_values.flip(axis) for axis in (3, 2)]


class TurnedCopies:
    """Collects what the copies of normal images add to their bank, image by image, as the images come.

    Args:
        augment: "rotations", "flips", "none", or "auto": turned where that brings the first `DECIDING` images nearer to
            one another, of a model whose scores know how normal images differ. Images that are cut into tiles are
            turned only where that is asked for.
        report: called with a line for people when "auto" turns.

    Attributes:
        way: as `augment`, decided once enough images are there.
    """

    def __init__(
        self, model: ScoringModel, augment: str, view: View = View(), report: Callable[[str], object] = ignored
    ):
        require_augment(augment, view)
        unfit = augment == AUTO and (view.by_place or not model.config.normal_variation)
        self.model, self.way, self.report = model, NONE if unfit else augment, report
        self._may_leave = augment == AUTO  # nobody asked for copies: they go where an image is cut into tiles
        self._waiting: list[tuple[Layers, torch.Tensor]] = []  # tokens (1, L, d) and pixel values, until it is decided
        self._kept: list[tuple[int, Layers]] = []
        self._count = 0

    def add(self, tokens: Layers, images: Sequence[TileInput]):
        """Adds images (or tiles); their numbers are the order in which they come.

        Args:
            tokens: for each layer their unit tokens (B, L, d).
        """
        if self._may_leave and self.way != NONE and any(len(each.tile.tiles) > 1 for each in images):
            if self.way != AUTO:
                self.report("turned copies are left out after all: some good photos are cut into tiles")
            self.way = NONE
            self._waiting.clear()
            self._kept.clear()
        for number, pixels in enumerate(each.pixel_values for each in images):
            own = tuple(layer[number : number + 1] for layer in tokens)
            if self.way == AUTO:
                self._waiting.append((own, pixels))
                if len(self._waiting) == DECIDING:
                    self._decide()
            elif self.way != NONE:
                self._keep(self._count, own, self._copies(pixels, self.way))
            self._count += 1

    def finish(self) -> tuple[Layers, Layers] | tuple[None, None]:
        """For each layer the tokens (M, d) to add and the images (M,) that they come from; `None` without copies."""
        if self.way == AUTO:
            self._decide()
        if not self._kept:
            return None, None
        layers = range(len(self._kept[0][1]))
        added = tuple(torch.cat([tokens[layer] for _, tokens in self._kept]) for layer in layers)
        owners = tuple(
            torch.cat(
                [torch.full((len(tokens[layer]),), image, device=added[layer].device) for image, tokens in self._kept]
            )
            for layer in layers
        )
        return added, owners

    def _decide(self):
        """Sets the way by the images that came so far, and keeps what their copies bring."""
        waiting, self._waiting = self._waiting, []
        self.way = NONE
        if len(waiting) < 2:
            return
        copies = [self._copies(pixels, ROTATIONS) for _, pixels in waiting]
        ratio = distance_ratio([own for own, _ in waiting], copies)
        if ratio >= NEARER:
            self.report(
                f"no turned copies of the good photos: turned they lie {max(0, 1 - ratio):.0%} nearer to one another, "
                f"and below {1 - NEARER:.0%} that is not worth it"
            )
            return
        self.way = ROTATIONS
        self.report(
            f"turned copies of the good photos join the bank: they lie {1 - ratio:.0%} nearer to one another turned"
        )
        for number, ((own, _), its_copies) in enumerate(zip(waiting, copies, strict=True)):
            self._keep(number, own, its_copies)

    def _copies(self, pixels: torch.Tensor, way: str) -> Layers:
        """For each layer the unit tokens (1, M, d) of all copies of an image."""
        parts = [encode(self.model, each).patch_embeds for each in turned(pixels, way)]
        return tuple(torch.cat([unit_patch_tokens(each) for each in layer], 1) for layer in zip(*parts, strict=True))

    def _keep(self, number: int, own: Layers, copies: Layers):
        kept = tuple(more[0, something_new(one[0], more[0])] for one, more in zip(own, copies, strict=True))
        self._kept.append((number, kept))


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
    own, copies = full_precision(own), full_precision(copies)
    among = (own @ own.T).fill_diagonal_(-1).amax(1)
    similarity, order = (copies @ own.T).amax(1).sort()
    return order[similarity < among.median()][: len(own)]


__all__ = ["TurnedCopies"]
