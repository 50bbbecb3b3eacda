"""A bank without some of its photos, and the normal tokens that matter to one photo, by comparisons already made."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..engine import PlainReference
from ..engine.reference import PreparedReference, at_place, bank_for
from ..engine.tiles import ONLY, Tile
from ..engine.variations import tiles_of, with_variations
from ..modeling.alignment import similarities
from ..modeling.normal_variation import NormalComparison, NormalVariation
from ..modeling.prompt_bank import PromptBank
from ..modeling.prompt_query_adapter import unit_patch_tokens
from .near_search import NearSearch
from .photo_features import PhotoFeatures


@dataclass(frozen=True)
class ComparedImages:
    """Images whose patches were compared with each image of a bank.

    A calibration scores images against many parts of one bank. Which image of a part is nearest to a patch follows from
    the distances to all, so that the patch is searched for in that image alone.

    Attributes:
        bank: of k images, on the model's device.
        tokens: for each layer (q, L, d), of the images that were compared.
        minima: (n, q, k, L), distance of each of their patches to the nearest one of each image of the bank.
    """

    bank: PromptBank
    tokens: tuple[torch.Tensor, ...]
    minima: torch.Tensor

    @classmethod
    def own(cls, bank: PromptBank, comparison: NormalComparison) -> "ComparedImages":
        """The bank's own images; of a large bank those that were compared with the others, `comparison.queries`."""
        some = len(comparison.queries) < len(bank)
        tokens = tuple(layer[comparison.queries] if some else layer for layer in bank.features)
        return cls(bank, tokens, comparison.minima)

    @cached_property
    def by_image(self) -> list[list[torch.Tensor]]:
        """For each layer the tokens (N, d) of each image of the bank, with those of its copies."""
        return [list(self.bank.tokens_by_image(layer)) for layer in range(len(self.tokens))]

    @torch.no_grad()
    def nearest(self, image: int, others: Sequence[int], variation: NormalVariation | None) -> PromptBank:
        """A bank of one image, with which an image scores as with a part of the whole bank.

        Args:
            image: number of the image among those that were compared.
            others: numbers of the bank's images that make the part.
            variation: of the part.

        Returns:
            [`PromptBank`]: the part's nearest token of each patch.
        """
        kept, layers = list(others), []
        for index, layer in enumerate(self.tokens):
            query, chosen = layer[image], torch.empty_like(layer[image])
            nearest = self.minima[index, image, kept].argmin(0)
            for number in nearest.unique().tolist():
                places, tokens = nearest == number, self.by_image[index][kept[number]]
                chosen[places] = tokens[similarities(query[places], tokens).argmax(1)]
            layers.append(chosen[None])
        return replace(self.bank, features=tuple(layers), variation=variation, added=None, added_of=None)


@dataclass(frozen=True)
class ComparedBank:
    """A profile's bank, whose photos were compared with one another: any of them can be left out at once.

    Attributes:
        reference: the bank, which knows how its photos differ from one another, if scores use it.
        rows: of the photos' features, those that make the bank.
        comparisons: of [`compare_normals`].
    """

    reference: PreparedReference
    rows: tuple[int, ...]
    comparisons: tuple[NormalComparison, ...]

    def others(self, left_out: Collection[int]) -> list[int]:
        """Numbers of the bank's tiles that are none of these rows."""
        return [number for number, row in enumerate(self.rows) if row not in left_out]

    def without(self, left_out: Collection[int]) -> PreparedReference:
        """The reference without the tiles of some photos, by their rows."""
        others = self.others(left_out)
        if len(others) == len(self.rows):
            return self.reference
        reference, bank = self.reference, self.bank
        without = replace(reference, prompt_bank=replace(bank, variation=None).select(others))
        if bank.variation is None and not reference.variations:
            return without
        return with_variations(without, self.comparisons, self._images(others))

    def for_photo(self, rows: tuple[int, int], left_out: Collection[int]) -> PreparedReference | None:
        """A reference of the normal token nearest to each patch of one photo, with which it scores as with [`without`].

        Args:
            rows: of the photo, [first, end).
            left_out: rows of photos that are left out, this one's among them.

        Returns:
            `None` if the photo is not one of the bank's that were compared with the others.
        """
        number = self._compared.get(rows[0])
        if number is None:
            return None
        images = self._images(self.others(left_out))
        if len(self._places) == 1:
            [place], [comparison] = self._places, self.comparisons
            return replace(self.reference, prompt_bank=place.nearest(number, images, comparison.variation(images)))
        nearest = [place.nearest(number, images, None).features for place in self._places]
        bank = replace(self.bank, features=tuple(map(torch.cat, zip(*nearest, strict=True))))
        return with_variations(replace(self.reference, prompt_bank=bank), self.comparisons, images)

    def for_tile(self, tile: Tile, left_out: Collection[int]) -> PreparedReference:
        """The reference of [`without`] for a tile alone, which need not hold what other tiles are compared with."""
        view = self.reference.reference.view
        if view.same_place != ONLY or len(tile.tiles) == 1:
            return self.without(left_out)
        images = self._images(self.others(left_out))
        variation = self.comparisons[tile.number].variation(images) if self.comparisons else None
        bank = at_place(self.bank, tile.number, len(tile.tiles)).select(images, variation)
        anywhere = PlainReference(view=replace(view, same_place=False))
        return replace(self.reference, reference=anywhere, prompt_bank=bank, variations=())

    def near_photo(
        self, features: PhotoFeatures, rows: tuple[int, int], tile: Tile, left_out: Collection[int]
    ) -> NearSearch:
        """Searches what a tile of a photo is compared with in [`without`], for tiles that are much like it.

        Args:
            features: of the profile's photos.
            rows: of the photo, [first, end).
            left_out: rows of photos that are left out, this one's among them.
        """
        number = self._compared.get(rows[0])
        if number is None or len(self._places) != len(tile.tiles):
            own = features.unpacked([rows[0] + tile.number]).patch_embeds
            bank = bank_for(self.for_tile(tile, left_out), tile)
            assert bank is not None
            like = bank.features[0]
            return NearSearch.of(bank, [unit_patch_tokens(layer)[0].to(like.device, like.dtype) for layer in own])
        images = self._images(self.others(left_out))
        place, variation = self._places[tile.number], self.comparisons[tile.number].variation(images)
        return NearSearch(
            replace(place.bank, variation=variation),
            [[layer[image] for image in images] for layer in place.by_image],
            [layer[number] for layer in place.tokens],
            place.minima[:, number, images],
        )

    @property
    def bank(self) -> PromptBank:
        assert self.reference.prompt_bank is not None
        return self.reference.prompt_bank

    def _images(self, tiles: Sequence[int]) -> list[int]:
        """The photos of tiles; where each tile has its place, the bank has all tiles of a photo."""
        view, count = self.reference.reference.view, len(self.comparisons)
        if not count and view.same_place == ONLY:
            count = tiles_of(self.bank, view)
        return sorted({number // max(1, count) for number in tiles})

    @cached_property
    def _places(self) -> list[ComparedImages]:
        """The photos that were compared, place by place; empty where that says nothing of their nearest tokens."""
        view, count = self.reference.reference.view, len(self.comparisons)
        if view.same_place is True or not count:
            return []
        if count == 1:
            return [ComparedImages.own(self.bank, *self.comparisons)]
        places = (at_place(self.bank, number, count) for number in range(count))
        return [ComparedImages.own(*each) for each in zip(places, self.comparisons, strict=True)]

    @cached_property
    def _compared(self) -> dict[int, int]:
        """First row of a photo -> its number among those that were compared."""
        if not self._places:
            return {}
        queries, tiles = self.comparisons[0].queries.tolist(), len(self.comparisons)
        return {self.rows[image * tiles]: number for number, image in enumerate(queries)}
