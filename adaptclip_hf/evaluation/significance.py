"""Whether two methods' image AUROC differ by more than the choice of test images explains."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

SEED = 0
LEVEL = 0.95


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
    drawn = [
        np.concatenate([rng.choice(np.flatnonzero(labels == label), (labels == label).sum()) for label in (0, 1)])
        for _ in range(resamples)
    ]
    resampled = [
        np.mean([auroc(one[rows], labels[rows]) - auroc(other[rows], labels[rows]) for one, other in pairs])
        for rows in drawn
    ]
    return AurocDifference(float(positive.mean()), float(variance), np.array(resampled))


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(placements(scores, labels)[0].mean())


def placements(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative the share of positives above it; ties count
    half. Both means are the AUROC (DeLong et al. 1988, by the midranks of Sun and Xu 2014)."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    of_positive, of_negative = ranks[: len(positive)], ranks[len(positive) :]
    above = (of_positive - stats.rankdata(positive)) / len(negative)
    below = 1 - (of_negative - stats.rankdata(negative)) / len(positive)
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
