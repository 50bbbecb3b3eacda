"""A large pool of normal tokens in groups of like ones, in NumPy: what `modeling/token_groups.py` does in torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ..modeling.bank_content import GROUPS_SEARCHED, ROUNDS, SAMPLED, TOKENS_A_GROUP, TOKENS_AT_ONCE


@dataclass(frozen=True, eq=False)
class NumpyGroups:
    """As [`TokenGroups`]: `centres` (C, d), the pools' `tokens` (N, d), and those of each of the C groups; float32."""

    centres: np.ndarray
    tokens: tuple[np.ndarray, ...]
    groups: tuple[np.ndarray, ...]

    @classmethod
    def joined(cls, pools: "Sequence[NumpyGroups]") -> "NumpyGroups":
        """The groups of several pools, without a copy of their tokens."""
        return cls(
            np.concatenate([pool.centres for pool in pools]),
            tuple(chain(*(pool.tokens for pool in pools))),
            tuple(chain(*(pool.groups for pool in pools))),
        )

    def nearest(self, query: np.ndarray) -> np.ndarray:
        """(T, d) unit tokens -> (T, d), of each the nearest token of the groups most like it."""
        searched = min(GROUPS_SEARCHED, len(self.groups))
        numbers = nearest_centres(query, self.centres, searched).ravel()
        order = numbers.argsort(kind="stable")
        ends = np.bincount(numbers, minlength=len(self.groups)).cumsum()[:-1]
        greatest, places, start = [], [], 0
        for some, group in zip(np.split(query[order // searched], ends), self.groups, strict=True):
            if len(some):
                among = some @ group.T
                place = among.argmax(1)
                greatest.append(among[np.arange(len(some)), place])
                places.append(place + start)
            start += len(group)
        back = order.argsort().reshape(-1, searched)
        best = np.concatenate(greatest)[back].argmax(1)
        return self._at(np.concatenate(places)[back[np.arange(len(back)), best]])

    def _at(self, places: np.ndarray) -> np.ndarray:
        """(T,) places in all tokens -> (T, d)."""
        if len(self.tokens) == 1:
            return self.tokens[0][places]
        found, start = np.empty((len(places), self.tokens[0].shape[1]), self.tokens[0].dtype), 0
        for tokens in self.tokens:
            here = (places >= start) & (places < start + len(tokens))
            found[here] = tokens[places[here] - start]
            start += len(tokens)
        return found


@dataclass(frozen=True, eq=False)
class NearerOfNumpy:
    """As [`NearerOf`]: two pools that are each searched."""

    one: NumpyGroups
    other: NumpyGroups

    def nearest(self, query: np.ndarray) -> np.ndarray:
        """(T, d) unit tokens -> (T, d), of each the nearer one of what both pools offer."""
        offered = [pool.nearest(query) for pool in (self.one, self.other)]
        one, other = ((query * each).sum(-1, keepdims=True) for each in offered)
        return np.where(one >= other, *offered)


def arranged(tokens: np.ndarray) -> tuple[np.ndarray, NumpyGroups]:
    """Finite unit tokens (N, d) of float32, one group after the other, and their groups, which share that memory."""
    centres = centres_of(tokens, -(-len(tokens) // TOKENS_A_GROUP))
    parts = [tokens[first : first + TOKENS_AT_ONCE] for first in range(0, len(tokens), TOKENS_AT_ONCE)]
    numbers = np.concatenate([nearest_centres(part, centres, 1)[:, 0] for part in parts])
    sizes, in_order = np.bincount(numbers, minlength=len(centres)), tokens[numbers.argsort(kind="stable")]
    there = sizes > 0
    return in_order, NumpyGroups(centres[there], (in_order,), tuple(np.split(in_order, sizes[there].cumsum()[:-1])))


def nearest_centres(tokens: np.ndarray, centres: np.ndarray, count: int) -> np.ndarray:
    """(T, count) numbers of the centres most like each token."""
    similarity = tokens @ centres.T
    if count == 1:
        return similarity.argmax(1)[:, None]
    return np.argpartition(-similarity, min(count, similarity.shape[1]) - 1, axis=1)[:, :count]


def centres_of(tokens: np.ndarray, count: int) -> np.ndarray:
    """(count, d) by k-means on the sphere, of tokens at even distances and in float64; some may be equal."""
    sample = tokens[evenly(len(tokens), SAMPLED * count)].astype(np.float64)
    centres = sample[evenly(len(sample), count)]
    for _ in range(ROUNDS):
        nearest = (sample @ centres.T).argmax(1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(sums.any(1, keepdims=True), sums / np.maximum(lengths, 1e-12), centres)
    return centres.astype(np.float32)


def evenly(length: int, count: int) -> np.ndarray:
    """At most `count` places among `length`, at even distances."""
    return np.linspace(0, length - 1, min(length, count)).round().astype(np.int64)
