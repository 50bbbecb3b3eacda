"""From scores of good photos to decisions with a known rate of false alarms (conformal p-values)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

CERTAINTY = 0.95
TOLERANCE = 1e-9  # of products such as 0.05 * 20, which are inexact in floats
PHOTOS, PARTS = "photos", "parts"  # what is counted, for messages
MOST_PHOTOS = 1e15  # that a rate is ever said to need


@dataclass(frozen=True)
class Calibration:
    """Scores of good photos, each against normal images without itself, and a threshold.

    A new good photo is as likely to take any place among them: its p-value (1 + #{s_i >= s}) / (n + 1) is at or below
    any rate at most that often (Vovk et al., Algorithmic Learning in a Random World; Bates et al. 2023).

    Attributes:
        scores: (n,) of good photos, ascending.
        threshold: what scores above it is called anomalous.

    Raises:
        ValueError: a threshold that is no finite number.
    """

    scores: np.ndarray = field(repr=False)
    threshold: float

    def __post_init__(self):
        if not is_number(self.threshold):
            raise ValueError(f"Expected a threshold that is a finite number, got {self.threshold!r:.60}.")
        object.__setattr__(self, "threshold", float(self.threshold))

    @classmethod
    def at_rate(cls, scores: Sequence[float], false_alarm_rate: float) -> "Calibration":
        """The lowest threshold that good photos exceed at most at this rate, on average.

        Raises:
            ValueError: there are too few photos for the rate; says how many it needs, and the lowest rate for these.
        """
        rising = ascending(scores)
        exceeding = math.floor(false_alarm_rate * (len(rising) + 1) + TOLERANCE) - 1
        if exceeding < 0:
            raise ValueError(cannot_carry(len(rising), false_alarm_rate))
        return cls(rising, float(rising[max(0, len(rising) - 1 - exceeding)]))

    @classmethod
    def at_escape_rate(cls, scores: Sequence[float], defects: Sequence[float], escape_rate: float) -> "Calibration":
        """The highest threshold below which new defects stay at most at this rate, on average.

        Raises:
            ValueError: there are too few defects for the rate.
        """
        rising = ascending(defects)
        require_defects(len(rising), escape_rate)
        missed = max(1, min(math.floor(escape_rate * (len(rising) + 1) + TOLERANCE), len(rising)))
        return cls(ascending(scores), float(np.nextafter(rising[missed - 1], -np.inf)))

    @classmethod
    def at_best_f1(cls, scores: Sequence[float], defects: Sequence[float]) -> "Calibration":
        """The threshold with the highest F1 of defects among good photos; the middle between two scores."""
        good, bad = ascending(scores), ascending(defects)
        values = np.unique(np.concatenate([good, bad]))
        candidates = [float(np.nextafter(values[0], -np.inf)), *((values[1:] + values[:-1]) / 2).tolist()]

        def f1(threshold: float) -> float:
            found = (bad > threshold).sum()
            return 2 * found / (found + (good > threshold).sum() + len(bad))

        return cls(good, max(candidates, key=f1))

    def p_values(self, scores) -> np.ndarray:
        """For each score how often a good photo has it or a higher one, in (0, 1].

        Raises:
            ValueError: a score is no finite number; it has no place among the others.
        """
        count, scores = len(self.scores), np.asarray(scores, np.float64)
        if not np.isfinite(scores).all():
            raise ValueError(f"Expected scores that are finite numbers, got {scores[~np.isfinite(scores)].flat[0]}.")
        return (1 + count - np.searchsorted(self.scores, scores, side="left")) / (count + 1)

    def place_of(self, score: float, what: str = PHOTOS) -> str:
        """Above how many of the calibrating photos (or parts) a score lies, in words for people, with its p-value."""
        count, p_value = len(self.scores), float(self.p_values(score))
        below = count + 1 - round(p_value * (count + 1))
        place = "all" if below == count else f"{below or 'none'} of"
        lowest = f", the lowest that {count} can give" if below == count else ""
        return f"above {place} {counted(count, f'good {what}')} (p {p_value:.3f}{lowest})"

    @property
    def exceeding(self) -> int:
        """How many of the calibration's own photos lie above the threshold."""
        return int((self.scores > self.threshold).sum())

    @property
    def expected_rate(self) -> float:
        """The false-alarm rate is at most this on average, over draws of calibration photos."""
        return (self.exceeding + 1) / (len(self.scores) + 1)

    @property
    def certain_rate(self) -> float:
        """The false-alarm rate is at most this with 95 % certainty, for these very calibration photos.

        The share of good photos above the k-th smallest of n scores is Beta(n - k + 1, k) distributed. Where all n
        lie above the threshold, any share may.
        """
        if self.exceeding == len(self.scores):
            return 1.0
        return beta_quantile(CERTAINTY, self.exceeding + 1, len(self.scores) - self.exceeding)

    def escapes(self, defects: Sequence[float]) -> dict[str, float | int]:
        """How many of some defects stay unseen: count, share, and the exact interval (Clopper and Pearson).

        Raises:
            ValueError: there is no defect, or a score that is no finite number.
        """
        missed = int((ascending(defects) <= self.threshold).sum())
        found, beyond = len(defects) - missed, (1 - CERTAINTY) / 2
        return {
            "defects": len(defects),
            "missed": missed,
            "rate": missed / len(defects),
            "low": beta_quantile(beyond, missed, found + 1) if missed else 0.0,
            "high": beta_quantile(1 - beyond, missed + 1, found) if found else 1.0,
        }


def beta_quantile(probability: float, first: int, second: int) -> float:
    """The value that a Beta(first, second) distribution stays below with some probability."""
    from scipy.special import betaincinv  # scipy.stats takes half a second to import

    return float(betaincinv(first, second, probability))


def ascending(scores: Sequence[float]) -> np.ndarray:
    rising = np.sort(np.asarray(scores, np.float64))
    if not len(rising) or not np.isfinite(rising).all():
        raise ValueError(
            f"Expected scores that are finite numbers, at least one, got {len(rising)}, of which "
            f"{int((~np.isfinite(rising)).sum())} are none."
        )
    return rising


def is_number(value) -> bool:
    """Whether it is a finite number: no text, no truth value, no NaN."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def photos_needed(rate: float) -> int:
    """The fewest calibration photos that a false-alarm or escape rate needs."""
    return max(1, math.ceil(min(1 / rate, MOST_PHOTOS) - 1 - TOLERANCE))


def lowest_rate(count: int) -> float:
    """The lowest false-alarm rate that this number of photos allows."""
    return 1 / (count + 1)


def used_rate(count: int, rate: float) -> float:
    """How much of a false-alarm rate this number of photos uses: rates rise in steps of 1 / (n + 1)."""
    return math.floor(rate * (count + 1) + TOLERANCE) / (count + 1)


def photos_that_use(rate: float, near: int) -> tuple[int, int]:
    """The two numbers of photos around `near` that use a rate as far as any number does: k / rate - 1 for a whole k."""
    steps = math.floor(rate * (near + 1) + TOLERANCE)
    return photos_needed(rate / max(1, steps)), photos_needed(rate / (steps + 1))


def cannot_carry(count: int, rate: float, what: str = PHOTOS) -> str:
    lowest = percent(math.ceil(lowest_rate(count) * 1000 - TOLERANCE) / 1000)
    return (
        f"{counted(count, f'good {what}')} cannot carry a false-alarm rate of {percent(rate)}: it takes "
        f"{photos_needed(rate)}, and {'this one carries' if count == 1 else 'these carry'} {lowest} at the lowest"
    )


def counted(count: int, what: str) -> str:
    """`1 photo`, `2 photos`, of a plural."""
    return f"{count} {what.removesuffix('s') if count == 1 else what}"


def require_defects(count: int, escape_rate: float):
    """Raises a ValueError, with the number that it takes, for too few known defects."""
    if count < photos_needed(escape_rate):
        raise ValueError(
            f"{count} defects cannot carry an escape rate of {percent(escape_rate)}: {photos_needed(escape_rate)} are "
            "needed"
        )


def discoveries(p_values: Sequence[float] | np.ndarray, false_discovery_rate: float) -> np.ndarray:
    """Which of many p-values are anomalous, so that at most this share of those called so are good ones (Benjamini and
    Hochberg 1995; for conformal p-values Bates et al. 2023).

    Returns:
        (N,) booleans.

    Raises:
        ValueError: a p-value that does not lie in [0, 1].
    """
    p_values = np.asarray(p_values, np.float64)
    if not len(p_values):
        return np.zeros(0, bool)
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError("Expected p-values in [0, 1].")
    from scipy import stats

    return stats.false_discovery_control(p_values) <= false_discovery_rate + TOLERANCE


def require_discoverable(calibrating: int, false_discovery_rate: float):
    """Refuses a false-discovery rate at which nothing could ever be called anomalous.

    The lowest p-value is 1 / (n + 1). Benjamini and Hochberg call k of m images anomalous if the k-th lowest p-value is
    at most k / m of the rate: at k = m, where that is most, the lowest p-value must not be above the rate itself.

    Args:
        calibrating: n, how many photos calibrate.

    Raises:
        ValueError: says how many photos must calibrate.
    """
    if lowest_rate(calibrating) > false_discovery_rate + TOLERANCE:
        raise ValueError(
            f"With {calibrating} calibrating photos no p-value is below {percent(lowest_rate(calibrating))}, so that a "
            f"false-discovery rate of {percent(false_discovery_rate)} could call nothing anomalous: it takes "
            f"{photos_needed(false_discovery_rate)}. Fit a profile of more good photos, or ask for a higher rate."
        )


def percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
