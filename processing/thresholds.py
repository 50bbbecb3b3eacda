"""What a score is beside a threshold."""

import math
from numbers import Real


def label_of(score: float, threshold: float | None) -> str | None:
    """Whether a score is above the threshold; `None` without one.

    Raises:
        ValueError: one of them is NaN, which is neither above nor below.
    """
    if threshold is None:
        return None
    if score > threshold:
        return "anomalous"
    if score <= threshold:
        return "normal"
    raise ValueError(f"The score {score} cannot be held against the threshold {threshold}: one of them is no number.")


def margin_of(score: float, threshold: float | None) -> float | None:
    """How many times the threshold a score is: above 1 it is anomalous; `None` where no threshold above 0 is."""
    margin = score / threshold if threshold is not None and threshold > 0 else math.inf
    return float(margin) if math.isfinite(margin) else None


def check_threshold(threshold: float | None):
    """Raises a ValueError for what is not a probability."""
    number = threshold is None or (isinstance(threshold, Real) and not isinstance(threshold, bool))
    if not number or (threshold is not None and not 0 <= threshold <= 1):
        raise ValueError(f"The threshold must lie in [0, 1], as scores do; got {threshold!r}.")
