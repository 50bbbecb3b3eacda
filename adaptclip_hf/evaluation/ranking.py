"""Figures of a ranking, from how many good and how many anomalous things lie at each score."""

import numpy as np


def ranking_figures(normal: np.ndarray, anomalous: np.ndarray) -> dict[str, float]:
    """AUROC, AP and the largest F1 over all thresholds, as fractions (reference, "Evaluation protocol").

    Args:
        normal, anomalous: (n,) counts at n scores in ascending order.

    Returns:
        `auroc`, `ap` (area under the precision-recall curve by the trapezoid rule) and `f1max`; none of them unless
        both kinds are there.
    """
    if not normal.any() or not anomalous.any():
        return {}
    taken = np.flatnonzero((normal + anomalous)[::-1])
    true = np.cumsum(anomalous[::-1].astype(float))[taken]
    false = np.cumsum(normal[::-1].astype(float))[taken]
    recall, fall_out, precision = true / true[-1], false / false[-1], true / (true + false)
    # among points of one recall the reference's curve passes from the lowest to the highest precision
    points = np.r_[0, recall], np.r_[1, precision]
    order = np.lexsort(points[::-1])
    return {
        "auroc": float(np.trapezoid(np.r_[0, recall], np.r_[0, fall_out])),
        "ap": float(np.trapezoid(points[1][order], points[0][order])),
        "f1max": float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()),
    }
