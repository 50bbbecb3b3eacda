"""The normal tokens that matter to one image, found from comparisons that were made already."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ..modeling.normal_variation import NormalComparison, NormalVariation
from ..modeling.prompt_bank import PromptBank


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
        return cls(bank, tuple(layer[comparison.queries] for layer in bank.features), comparison.minima)

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
                chosen[places] = tokens[(query[places] @ tokens.T).argmax(1)]
            layers.append(chosen[None])
        return replace(self.bank, features=tuple(layers), variation=variation, added=None, added_of=None)
