"""Turned or mirrored copies of normal images, of parts that lie on the line in any direction.

A copy is compared with as one more view of its image. Many of its patches are in the image itself: of all copies of an
image those tokens are kept that are farthest from its own, at most as many as these.
"""

from collections.abc import Callable, Sequence

from .augments import AUTO, NONE, ROTATIONS, ignored, require_augment
from .contract import Array, Layers, ScoringModel, arrays_of
from .scoring import TileInput, encode
from .tiles import View

DECIDING = 8  # images that "auto" decides by, the first ones
NEARER = 0.9  # of the distances of these images to one another: what turned copies must bring them to


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
        self.arrays = arrays_of(model)
        self._may_leave = augment == AUTO  # nobody asked for copies: they go where an image is cut into tiles
        self._waiting: list[tuple[Layers, Array]] = []  # tokens (1, L, d) and pixel values, until it is decided
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
        added = tuple(self.arrays.joined([tokens[layer] for _, tokens in self._kept]) for layer in layers)
        owners = tuple(self.arrays.owners([(image, tokens[layer]) for image, tokens in self._kept]) for layer in layers)
        return added, owners

    def _decide(self):
        """Sets the way by the images that came so far, and keeps what their copies bring."""
        waiting, self._waiting = self._waiting, []
        self.way = NONE
        if len(waiting) < 2:
            return
        copies = [self._copies(pixels, ROTATIONS) for _, pixels in waiting]
        ratio = self.arrays.distance_ratio([own for own, _ in waiting], copies)
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

    def _copies(self, pixels: Array, way: str) -> Layers:
        """For each layer the unit tokens (1, M, d) of all copies of an image."""
        copies = self.arrays.turned(pixels, way)
        parts = [self.arrays.unit_tokens(encode(self.model, each)) for each in copies]
        return tuple(self.arrays.joined(layer, 1) for layer in zip(*parts, strict=True))

    def _keep(self, number: int, own: Layers, copies: Layers):
        new = self.arrays.something_new
        kept = tuple(more[0, new(one[0], more[0])] for one, more in zip(own, copies, strict=True))
        self._kept.append((number, kept))


__all__ = ["TurnedCopies"]
