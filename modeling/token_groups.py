"""A large pool of normal tokens in groups of like ones, so that a token is looked for in a few groups alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from .alignment import most_similar
from .precision import full_precision

LARGE = 16384  # tokens; a smaller pool is searched through, which takes less than the encoder
TOKENS_A_GROUP = 512  # on average
GROUPS_SEARCHED = 8  # those whose centres are most like a token
SAMPLED = 32  # tokens a group that its centre is found by
ROUNDS = 4  # of k-means
TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class TokenGroups:
    """Unit tokens in groups; a pool of [`nearest_tokens`].

    Not exact: the nearest token may lie in a group that is not searched, and then another one that is nearly as near is
    found. A token of the pool finds itself, whose group is the first one searched.

    Attributes:
        centres: (C, d), of unit length; float32.
        tokens: (N, d), one group after the other.
        sizes: of the C groups, none empty.
    """

    centres: torch.Tensor
    tokens: torch.Tensor
    sizes: list[int]

    @classmethod
    @torch.no_grad()
    def of(cls, tokens: torch.Tensor) -> "TokenGroups":
        """Groups finite unit tokens (N, d). The same tokens give the same groups."""
        centres = centres_of(tokens, -(-len(tokens) // TOKENS_A_GROUP))
        groups = torch.cat([nearest_centres(part, centres, 1)[:, 0] for part in tokens.split(TOKENS_AT_ONCE)])
        sizes = groups.bincount(minlength=len(centres))
        there = sizes > 0
        return cls(centres[there], tokens[groups.argsort(stable=True)], sizes[there].tolist())

    @torch.no_grad()
    def nearest(self, query: torch.Tensor) -> torch.Tensor:
        """(T, d) unit tokens -> (T, d), of each the nearest token of the groups most like it.

        Each group is multiplied once with all tokens that are looked for in it. What each of its groups offers to a
        token is compared in float32, whatever the product was computed in.
        """
        if torch.compiler.is_compiling():  # a graph cannot loop over groups
            return self.tokens[(query @ self.tokens.T).argmax(1)]
        searched = min(GROUPS_SEARCHED, len(self.sizes))
        groups = nearest_centres(query, self.centres, searched).flatten()
        order = groups.argsort(stable=True)
        asking = query[order // searched].split(groups.bincount(minlength=len(self.sizes)).tolist())
        found, first = [], 0
        for some, group in zip(asking, self.tokens.split(self.sizes), strict=True):
            if len(some):
                found.append(most_similar(some, group)[1] + first)
            first += len(group)
        offered = torch.empty_like(order)
        offered[order] = torch.cat(found)
        offered = offered.view(-1, searched)
        similarity = torch.einsum("td,tcd->tc", full_precision(query), full_precision(self.tokens[offered]))
        return self.tokens[offered.gather(1, similarity.argmax(1, keepdim=True))[:, 0]]


def nearest_centres(tokens: torch.Tensor, centres: torch.Tensor, count: int) -> torch.Tensor:
    """(T, count) numbers of the centres most like each token, the nearest first."""
    return (full_precision(tokens) @ centres.T).topk(count, dim=1).indices


def centres_of(tokens: torch.Tensor, count: int) -> torch.Tensor:
    """(count, d) by k-means on the sphere; some may be equal.

    It looks at tokens at even distances, so that chance has no part, and computes in float64, so that the number of
    threads has none either.
    """
    sample = tokens[evenly(len(tokens), SAMPLED * count)].double()
    centres = sample[evenly(len(sample), count)]
    for _ in range(ROUNDS):
        nearest = (sample @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, sample)
        centres = torch.where(sums.any(1, keepdim=True), F.normalize(sums, dim=1), centres)
    return centres.float()


def evenly(length: int, count: int) -> torch.Tensor:
    """At most `count` places among `length`, at even distances."""
    return torch.linspace(0, length - 1, min(length, count), dtype=torch.float64).round().long()


@dataclass(frozen=True)
class GroupedLayers:
    """The tokens of a bank in groups, layer by layer.

    Attributes:
        layers: the bank's features, which hold the groups' tokens.
        pools: their groups.
    """

    layers: tuple[torch.Tensor, ...]
    pools: tuple[TokenGroups, ...]

    @classmethod
    def of(cls, layers: Sequence[torch.Tensor]) -> "GroupedLayers":
        """Groups features (k, L, d), each layer on its own."""
        pools = tuple(TokenGroups.of(layer.flatten(0, 1)) for layer in layers)
        return cls(tuple(pool.tokens.view_as(layer) for pool, layer in zip(pools, layers, strict=True)), pools)

    def belongs_to(self, layers: Sequence[torch.Tensor]) -> bool:
        """Whether these are the features that were grouped, and not some of them or others."""
        return len(layers) == len(self.layers) and all(map(lambda one, own: one is own, layers, self.layers))
