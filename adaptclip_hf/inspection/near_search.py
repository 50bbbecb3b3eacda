"""Nearest normal tokens of an image that is much like one whose distances to each normal image are known.

A token that has moved a little comes only a little nearer to any normal token. Normal images that are too far for it,
by what was found already, are not searched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..modeling.alignment import nearest_tokens
from ..modeling.normal_variation import nearest_distances
from ..modeling.precision import full_precision
from ..modeling.prompt_bank import PromptBank

ROUNDING = 1e-6  # of a product of unit tokens, at least
Layers = Sequence[torch.Tensor]


@dataclass(frozen=True)
class NearSearch:
    """A search among k normal images, near to an image that was compared with them.

    Attributes:
        bank: whose model, preprocessing and variation count; not its tokens.
        images: for each layer the tokens (N, d) of each normal image, with those of its copies.
        tokens: for each layer (L, d), of the image that was compared.
        distances: (n, k, L) of its patches to the nearest token of each normal image.
    """

    bank: PromptBank
    images: Sequence[Layers]
    tokens: Layers
    distances: torch.Tensor

    @classmethod
    def of(cls, bank: PromptBank, tokens: Layers) -> "NearSearch":
        """Compares an image with a bank first.

        Args:
            tokens: of the image, for each layer (L, d).
        """
        images = [list(bank.tokens_by_image(layer)) for layer in range(len(tokens))]
        found = [
            torch.cat([nearest_distances(layer[None], each) for each in of_layer])
            for layer, of_layer in zip(tokens, images, strict=True)
        ]
        return cls(bank, images, tokens, torch.stack(found))

    @torch.no_grad()
    def nearest(self, tokens: Layers) -> list[PromptBank]:
        """For each of B images a bank of one image, the nearest normal token of each patch: it scores as with all.

        Args:
            tokens: for each layer (B, L, d).
        """
        layers = zip(tokens, self.tokens, self.images, self.distances, strict=True)
        chosen = [nearest_of(*layer) for layer in layers]
        banks = zip(*(layer.split(1) for layer in chosen), strict=True)
        return [replace(self.bank, features=layers, added=None, added_of=None) for layers in banks]


def nearest_of(
    query: torch.Tensor, known: torch.Tensor, images: Sequence[torch.Tensor], distances: torch.Tensor
) -> torch.Tensor:
    """The nearest tokens (B, L, d) of one layer.

    Products are in float32: small ones take longer in half precision, which would not tell like tokens apart.

    Args:
        query: (B, L, d).
        known: (L, d), tokens of which the distances are known.
        images: k times (N, d).
        distances: (k, L).
    """
    tokens, images = full_precision(query).flatten(0, 1), [full_precision(each) for each in images]
    # tokens that were stored are not quite of unit length. What products in half precision took for the nearest token
    # of an image is not looked at again: measured, one token of a hundred is less near for it, by less than 0.001
    lengths = torch.stack([each.norm(dim=-1).max() for each in images])
    most = at_most(tokens, full_precision(known), distances, lengths)  # (k, B * L), similarity to each normal image
    first = distances.argmin(0).repeat(len(query))
    best, chosen = tokens.new_full((len(tokens),), -torch.inf), torch.empty_like(tokens)

    def search(number: int, places: torch.Tensor):
        found = nearest_tokens(tokens[places][None], images[number])[0]
        similarity = (tokens[places] * found).sum(-1)
        nearer = similarity > best[places]
        rows = places[nearer]
        best[rows], chosen[rows] = similarity[nearer], found[nearer]

    for number in first.unique().tolist():
        search(number, (first == number).nonzero()[:, 0])
    for number in range(len(images)):
        places = ((most[number] > best) & (first != number)).nonzero()[:, 0]
        if len(places):
            search(number, places)
    return chosen.view_as(query).to(query.dtype)


def at_most(tokens: torch.Tensor, known: torch.Tensor, distances: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(k, B * L) what the products of tokens with those of each normal image cannot exceed.

    A normal token has a part along the known one, which its distance limits, and one across it, which its length does.

    Args:
        tokens: (B * L, d).
        known: (L, d).
        distances: (k, L).
        lengths: (k,) of the longest token of each normal image.
    """
    norms, repeats = known.norm(dim=-1), len(tokens) // len(known)
    direction = (known / norms[:, None]).repeat(repeats, 1)
    along = (tokens * direction).sum(-1)
    across = (tokens - along[:, None] * direction).norm(dim=-1)
    longest = lengths[:, None]
    similarity = torch.where(distances > 0, (1 - distances) / norms, longest).minimum(longest)  # none is below zero
    rest = (longest.square() - similarity.square()).clamp_min(0).sqrt()
    similarity, rest = similarity.repeat(1, repeats), rest.repeat(1, repeats)
    total = (along.square() + across.square()).sqrt()
    # the normal token may then lie just as the token does
    parallel = similarity * total >= longest * along
    return torch.where(parallel, longest * total, similarity * along + rest * across) + ROUNDING
