"""A few of many normal images that stand for all: greedy k-center on whole images (as PatchCore's, on its patches)."""

from collections.abc import Sequence

import torch

from .alignment import SIMILARITIES_AT_ONCE


def greedy_coreset(layers: Sequence[torch.Tensor], count: int) -> list[int]:
    """Numbers of the images whose tokens cover those of all, in the order in which they were chosen.

    The first is the one that lies most in the middle; then always the one whose tokens are farthest, on average, from
    the nearest token of those that are chosen.

    Args:
        layers: for each layer unit tokens (k, L, d).
        count: 1 <= count <= k.
    """
    means = torch.cat([layer.float().mean(1) for layer in layers], dim=-1)
    chosen = [int((means - means.mean(0)).square().sum(-1).argmin())]
    nearest = [torch.full(layer.shape[:2], -torch.inf, device=layer.device) for layer in layers]
    while len(chosen) < count:
        for layer, similarity in zip(layers, nearest, strict=True):
            newest = layer[chosen[-1]].T
            step = max(1, SIMILARITIES_AT_ONCE // (layer.shape[1] * newest.shape[1]))
            for start in range(0, len(layer), step):
                rows = slice(start, start + step)
                similarity[rows] = torch.maximum(similarity[rows], (layer[rows] @ newest).amax(-1).float())
        distance = torch.stack([1 - similarity.mean(1) for similarity in nearest]).mean(0)
        distance[chosen] = -torch.inf
        chosen.append(int(distance.argmax()))
    return chosen
