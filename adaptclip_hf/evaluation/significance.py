"""Whether two methods' image AUROC differ by more than the choice of test images explains."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

SEED = 0
LEVEL = 0.95
AT_ONCE = 1_000_000  # scores that are ranked together


class AurocDifference(NamedTuple):
    """The difference of two methods' image AUROC in a category.

    Attributes:
        value: mean over the seeds.
        variance: of `value`, by DeLong et al. 1988.
        resampled: (R,) values for resampled images.
    """

    value: float
    variance: float
    resampled: np.ndarray


class DifferenceTest(NamedTuple):
    """The 95 % interval of a difference, and its two-sided p-value."""

    interval: tuple[float, float]
    p_value: float


def difference_of(pairs: Sequence[Sequence[np.ndarray]], labels: np.ndarray, resamples: int) -> AurocDifference | None:
    """The difference of two methods' image AUROC; `None` unless there are normal and anomalous images.

    Args:
        pairs: for each seed the scores (N,) of both methods.
        labels: (N,) 0 or 1.
        resamples: of the images, the same ones for both methods, each class separately.
    """
    if labels.min() == labels.max():
        return None
    components = [[placements(scores, labels) for scores in pair] for pair in pairs]
    # (positives,) and (negatives,): how much each image favours one method over the other, mean over the seeds
    positive, negative = (np.mean([one[side] - other[side] for one, other in components], axis=0) for side in (0, 1))
    variance = sum(part.var(ddof=1) / len(part) if len(part) > 1 else 0.0 for part in (positive, negative))
    rng = np.random.default_rng(SEED)
    drawn = np.array(
        [
            np.concatenate([rng.choice(np.flatnonzero(labels == label), (labels == label).sum()) for label in (0, 1)])
            for _ in range(resamples)
        ]
    )
    sorted_labels = np.sort(labels)  # of each draw
    resampled = [
        np.mean([auroc(one[rows], sorted_labels) - auroc(other[rows], sorted_labels) for one, other in pairs], axis=0)
        for rows in np.array_split(drawn, 1 + drawn.size // AT_ONCE)
    ]
    return AurocDifference(float(positive.mean()), float(variance), np.concatenate(resampled))


def auroc(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of scores (R, N): (R,)."""
    return placements(scores, labels)[0].mean(-1)


def placements(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative the share of positives above it; ties count
    half. Both means are the AUROC (DeLong et al. 1988, by the midranks of Sun and Xu 2014).

    Args:
        scores: (..., N).
        labels: (N,) 0 or 1.
    """
    positive, negative = scores[..., labels == 1], scores[..., labels == 0]
    count = positive.shape[-1]
    ranks = stats.rankdata(np.concatenate([positive, negative], axis=-1), axis=-1)
    above = (ranks[..., :count] - stats.rankdata(positive, axis=-1)) / negative.shape[-1]
    below = 1 - (ranks[..., count:] - stats.rankdata(negative, axis=-1)) / count
    return above, below


def tested_mean(differences: Sequence[AurocDifference | None], weights: Sequence[float]) -> DifferenceTest | None:
    """Tests the weighted mean of independent categories' differences; `None` unless all are known."""
    known = [each for each in differences if each is not None]
    if not known or len(known) < len(differences):
        return None
    values, variances, resampled = map(np.array, zip(*known, strict=True))
    factors = np.array(weights)
    low, high = np.quantile(factors @ resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    p_value = two_sided(float(factors @ values), float(np.sqrt(factors**2 @ variances)))
    return DifferenceTest((float(low), float(high)), p_value)


def two_sided(value: float, deviation: float) -> float:
    if deviation == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.norm.sf(abs(value) / deviation))
