"""A few normal images that represent many: the greedy k-center of PatchCore, on images where PatchCore uses patches."""

from collections.abc import Sequence

import torch

from .alignment import SIMILARITIES_AT_ONCE
from .precision import outside_autocast


@outside_autocast
def greedy_coreset(layers: Sequence[torch.Tensor], count: int) -> list[int]:
    """Numbers of the images whose tokens cover the tokens of all images, in the order in which they were chosen.

    The first is the image nearest to the mean of all. Each next one is the image whose tokens are, on average, farthest
    from the nearest token of the images chosen before.

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
