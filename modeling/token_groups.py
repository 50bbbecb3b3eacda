"""A large pool of normal tokens in groups of like ones, so that a token is looked for in a few groups alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch.nn import functional as F

from .alignment import most_similar, similarities
from .bank_content import GROUPS_SEARCHED, ROUNDS, SAMPLED, TOKENS_A_GROUP, TOKENS_AT_ONCE
from .precision import full_precision


@dataclass(frozen=True)
class TokenGroups:
    """Unit tokens in groups; a pool of [`nearest_tokens`].

    Not exact: the nearest token may lie in a group that is not searched, and then another one that is nearly as near is
    found. A token of the pool finds itself, whose group is the first one searched.

    Attributes:
        centres: (C, d), of unit length; float32.
        tokens: (N, d) of one pool or more, each one group after the other.
        groups: the tokens (n, d) of each of the C groups, which has at least one; float32. They share the memory of
            `tokens` where these are float32 too: to widen a group each time it is searched takes a seventh of the time.
    """

    centres: torch.Tensor
    tokens: tuple[torch.Tensor, ...]
    groups: tuple[torch.Tensor, ...]

    @classmethod
    def joined(cls, pools: "Sequence[TokenGroups]") -> "TokenGroups":
        """The groups of several pools, without a copy of their tokens."""
        return cls(
            torch.cat([pool.centres for pool in pools]),
            tuple(chain(*(pool.tokens for pool in pools))),
            tuple(chain(*(pool.groups for pool in pools))),
        )

    @torch.no_grad()
    def nearest(self, query: torch.Tensor) -> torch.Tensor:
        """(T, d) unit tokens -> (T, d), of each the nearest token of the groups most like it.

        Each group is multiplied once with all tokens that are looked for in it, and in float32: products this small
        gain nothing by half precision, which would not tell like tokens apart.
        """
        if torch.compiler.is_compiling():  # a graph cannot loop over groups
            tokens = torch.cat(self.tokens)
            return tokens[similarities(query, tokens).argmax(1)]
        exact = full_precision(query)
        searched = min(GROUPS_SEARCHED, len(self.groups))
        numbers = nearest_centres(exact, self.centres, searched).flatten()
        order = numbers.argsort(stable=True)
        asking = exact[order // searched].split(numbers.bincount(minlength=len(self.groups)).tolist())
        greatest, places, start = [], [], 0
        for some, group in zip(asking, self.groups, strict=True):
            if len(some):
                similarity, place = most_similar(some, group)
                greatest.append(similarity)
                places.append(place + start)
            start += len(group)
        back = order.argsort().view(-1, searched)
        best = torch.cat(greatest)[back].argmax(1, keepdim=True)
        return self._at(torch.cat(places)[back.gather(1, best)[:, 0]])

    def _at(self, places: torch.Tensor) -> torch.Tensor:
        """(T,) places in all tokens -> (T, d)."""
        if len(self.tokens) == 1:
            return self.tokens[0][places]
        found, start = self.tokens[0].new_empty(len(places), self.tokens[0].shape[1]), 0
        for tokens in self.tokens:
            here = (places >= start) & (places < start + len(tokens))
            found[here] = tokens[places[here] - start]
            start += len(tokens)
        return found


@dataclass(frozen=True)
class NearerOf:
    """Two pools that are each searched, so that a token of either finds itself.

    Joined, a group of the other one may be more like a token than its own.
    """

    one: TokenGroups
    other: TokenGroups

    @torch.no_grad()
    def nearest(self, query: torch.Tensor) -> torch.Tensor:
        """(T, d) unit tokens -> (T, d), of each the nearer one of what both pools offer."""
        offered = [pool.nearest(query) for pool in (self.one, self.other)]
        one, other = ((full_precision(query) * full_precision(each)).sum(-1, keepdim=True) for each in offered)
        return offered[0].where(one >= other, offered[1])


@torch.no_grad()
def arranged(tokens: torch.Tensor) -> tuple[torch.Tensor, TokenGroups]:
    """Finite unit tokens (N, d), one group after the other, and their groups, which share that memory.

    The same tokens are arranged in the same way.
    """
    centres = centres_of(tokens, -(-len(tokens) // TOKENS_A_GROUP))
    numbers = torch.cat([nearest_centres(part, centres, 1)[:, 0] for part in tokens.split(TOKENS_AT_ONCE)])
    sizes, in_order = numbers.bincount(minlength=len(centres)), tokens[numbers.argsort(stable=True)]
    there = sizes > 0
    return in_order, TokenGroups(centres[there], (in_order,), full_precision(in_order).split(sizes[there].tolist()))


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
        pools: their groups, with those of other banks if they are searched together.
    """

    layers: tuple[torch.Tensor, ...]
    pools: tuple[TokenGroups | NearerOf, ...]

    @classmethod
    def of(cls, layers: Sequence[torch.Tensor]) -> "GroupedLayers":
        """Groups features (k, L, d), each layer on its own."""
        tokens, pools = zip(*(arranged(layer.flatten(0, 1)) for layer in layers), strict=True)
        return cls(tuple(each.view_as(layer) for each, layer in zip(tokens, layers, strict=True)), pools)

    def belongs_to(self, layers: Sequence[torch.Tensor]) -> bool:
        """Whether these are the features that were grouped, and not some of them or others."""
        return len(layers) == len(self.layers) and all(map(lambda one, own: one is own, layers, self.layers))
