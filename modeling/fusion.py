"""How the adapters' maps and scores become one map and one score (reference, "Fusion")."""

import torch

from .normal_variation import WHOLE_WEIGHT, probability
from .precision import outside_autocast


def harmonic_mean(values: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """Harmonic mean along `dim`; a zero among the values makes it zero."""
    if values.requires_grad:  # the slope at a zero is infinite, and would make every gradient NaN
        values = values.where(values != 0, 0.0)
    return values.shape[dim] / (1 / values).sum(dim)


@outside_autocast
def gaussian_filter(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian filter of maps (B, H, W), cut at 4 sigma, edges reflected with the edge pixel repeated."""
    if sigma == 0:
        return maps
    # products with all pixels of an axis take a tenth of the time of a convolution of one channel
    rows, columns = (smoothing_matrix(size, sigma, maps) for size in maps.shape[-2:])
    return rows @ maps @ columns.mT


def smoothing_matrix(size: int, sigma: float, like: torch.Tensor) -> torch.Tensor:
    """Weights (size, size) of the pixels of an axis in each of its filtered pixels, in the dtype of `like`."""
    radius = int(4 * sigma + 0.5)
    # in the maps' own dtype: some devices have no float64
    offsets = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    pixels = reflected_indices(size, radius, like.device).unfold(0, len(kernel), 1)
    return like.new_zeros(size, size).scatter_add(1, pixels, kernel.expand(size, -1))


def reflected_indices(size: int, radius: int, device: torch.device) -> torch.Tensor:
    """Indices that pad an axis by reflection, the edge repeated: 2 1 0 0 1 2 ... (any radius, any size)."""
    indices = torch.arange(-radius, size + radius, device=device) % (2 * size)
    return torch.where(indices < size, indices, 2 * size - 1 - indices)


def without_infinity(values: torch.Tensor) -> torch.Tensor:
    """An infinite value becomes 0, as in the released program. NaN stays NaN: it comes of damage, and is no score."""
    return values.masked_fill(values.isinf(), 0.0)


def peak(maps: torch.Tensor, share: float) -> torch.Tensor:
    """The part of maps (B, H, W) in the score (B,): the mean of this share of their largest values; 0 is the maximum
    (as released)."""
    count = round(share * maps.shape[-2] * maps.shape[-1])
    if count <= 1:
        return maps.amax((1, 2))
    return maps.flatten(1).topk(count, dim=-1, sorted=False).values.mean(-1)


def fuse(
    maps: list[torch.Tensor],
    scores: list[torch.Tensor],
    alignment: torch.Tensor | None,
    score_fusion: str,
    smoothing_sigma: float,
    peak_share: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One anomaly map (B, S, S) and one score (B,), both in [0, 1], of the adapters' probabilities. NaN
    among them makes both NaN.

    Args:
        maps: each adapter's class-1 map (B, S, S).
        scores: each adapter's class-1 image probability (B,).
        alignment: alignment maps of the layers (n, B, S, S), or `None` without normal images.
        score_fusion: `"harmonic"` as released, or `"mean"` as in the paper (no filter, no alignment, no maximum).
        smoothing_sigma: sigma in pixels of the filter.
        peak_share: see [`peak`].
    """
    anomaly_map, score = torch.stack(maps).mean(0), torch.stack(scores).mean(0)
    if score_fusion == "mean":
        return without_infinity(anomaly_map), without_infinity(score)
    if alignment is not None:
        nearest = without_infinity(harmonic_mean(alignment))
        anomaly_map = without_infinity(harmonic_mean(torch.stack([anomaly_map, nearest])))
    anomaly_map = without_infinity(gaussian_filter(anomaly_map, smoothing_sigma))
    highest = peak(anomaly_map, peak_share)
    if alignment is None:
        score = torch.stack([*scores, highest]).mean(0)
    else:
        score = harmonic_mean(torch.stack([score, highest]))
    return anomaly_map, without_infinity(score)


def fuse_distances(
    beyond: torch.Tensor, distances: torch.Tensor, whole: torch.Tensor, smoothing_sigma: float, peak_share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Map (B, S, S) and score (B,), both in [0, 1], of distances to normal images alone.

    Args:
        beyond: standardised distances (B, S, S).
        distances: as they are (B, S, S).
        whole: (B,) of whole images.
    """
    beyond, distances = (gaussian_filter(maps, smoothing_sigma) for maps in (beyond, distances))
    return probability(beyond, distances), probability(peak(beyond, peak_share) + WHOLE_WEIGHT * whole)


def fuse_alignment(
    alignment: torch.Tensor, smoothing_sigma: float, peak_share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Map (B, S, S) and score (B,), both in [0, 1], of alignment maps (n, B, S, S) alone."""
    nearest = without_infinity(harmonic_mean(alignment)).clamp_max(1)
    anomaly_map = gaussian_filter(nearest, smoothing_sigma)
    return anomaly_map, peak(anomaly_map, peak_share)
