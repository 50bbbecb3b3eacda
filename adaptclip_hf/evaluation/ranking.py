"""Figures of a ranking, from how many good and how many anomalous things lie at each score."""

import numpy as np


def ranking_figures(normal: np.ndarray, anomalous: np.ndarray) -> dict[str, float]:
    """AUROC and the largest F1 over all thresholds, as fractions (reference, "Evaluation protocol").

    Args:
        normal, anomalous: (n,) counts at n scores in ascending order.

    Returns:
        `auroc` and `f1max`; none of them unless both kinds are there.
    """
    if not normal.any() or not anomalous.any():
        return {}
    taken = np.flatnonzero((normal + anomalous)[::-1])
    true = np.cumsum(anomalous[::-1].astype(float))[taken]
    false = np.cumsum(normal[::-1].astype(float))[taken]
    recall, fall_out, precision = true / true[-1], false / false[-1], true / (true + false)
    return {
        "auroc": float(np.trapezoid(np.r_[0, recall], np.r_[0, fall_out])),
        "f1max": float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()),
    }
