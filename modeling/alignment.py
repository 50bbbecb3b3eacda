"""Spatial alignment: the nearest normal token of each query token (paper, equation 5)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch.nn import functional as F

from .precision import full_precision, outside_autocast

if TYPE_CHECKING:
    from .token_groups import NearerOf, TokenGroups

SIMILARITIES_AT_ONCE = 2**24

# a pool (N, d) for the whole batch, in groups if it is large, or one for each query: a tensor (B, N, d), or a sequence
OnePool: TypeAlias = "torch.Tensor | TokenGroups | NearerOf"
Pool: TypeAlias = "OnePool | Sequence[OnePool]"


@outside_autocast
def nearest_tokens(query: torch.Tensor, pool: Pool) -> torch.Tensor:
    """The pool token nearest to each query token by cosine distance, in bounded memory.

    Args:
        query: (B, L, d), L2-normalised.
        pool: a [`Pool`]; L2-normalised.

    Returns:
        (B, L, d) tokens of the pool; the first of equally near ones. At most `SIMILARITIES_AT_ONCE` similarities are in
        memory at a time, except in an exported or compiled graph, which cannot loop over an unknown length.
    """
    if isinstance(pool, Sequence) or (isinstance(pool, torch.Tensor) and pool.ndim == 3):
        return torch.cat([nearest_tokens(one[None], its_pool) for one, its_pool in zip(query, pool, strict=True)])
    tokens = query.flatten(0, 1)
    if not isinstance(pool, torch.Tensor):
        return pool.nearest(tokens).view_as(query)
    if torch.compiler.is_compiling():
        return pool[similarities(tokens, pool).argmax(dim=1)].view_as(query)
    return pool[most_similar(tokens, pool)[1]].view_as(query)


def most_similar(tokens: torch.Tensor, pool: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(T, d), (N, d) -> (T,) the greatest of [`similarities`] of each token, and (T,) the pool's token that has it."""
    step = max(1, SIMILARITIES_AT_ONCE // len(tokens))
    best, nearest = similarities(tokens, pool[:step]).max(dim=1)
    for start in range(step, len(pool), step):
        similarity, index = similarities(tokens, pool[start : start + step]).max(dim=1)
        closer = (similarity > best) | similarity.isnan()  # damage is not passed over: it makes the score NaN
        best = torch.where(closer, similarity, best)
        nearest = torch.where(closer, index + start, nearest)
    return best, nearest


def similarities(tokens: torch.Tensor, pool: torch.Tensor) -> torch.Tensor:
    """(T, d), (N, d) unit tokens -> (T, N) products of each with each; in half precision less one.

    Half precision rounds products near one to 1/256, so that the nearest tokens are not told apart. Less one, which is
    taken away before they are rounded, they are as fine as their distance is small.
    """
    if tokens.dtype.itemsize > 2:
        return tokens @ pool.T
    return F.linear(tokens, pool, pool.new_full(pool.shape[:1], -1.0))


def cosine_distance(query: torch.Tensor, aligned: torch.Tensor) -> torch.Tensor:
    """1 - <q, p> of unit vectors (B, L, d) -> (B, L), in float32, never below zero."""
    return (1 - (full_precision(query) * full_precision(aligned)).sum(-1)).clamp_min(0)
