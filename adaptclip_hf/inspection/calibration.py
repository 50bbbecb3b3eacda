"""From scores of good photos to decisions with a known rate of false alarms (conformal p-values)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

CERTAINTY = 0.95
TOLERANCE = 1e-9  # of products such as 0.05 * 20, which are inexact in floats


@dataclass(frozen=True)
class Calibration:
    """Scores of good photos, each against normal images without itself, and a threshold.

    A new good photo is as likely to take any place among them: its p-value (1 + #{s_i >= s}) / (n + 1) is at or below
    any rate at most that often (Vovk et al., Algorithmic Learning in a Random World; Bates et al. 2023).

    Attributes:
        scores: (n,) of good photos, ascending.
        threshold: what scores above it is called anomalous.
    """

    scores: np.ndarray = field(repr=False)
    threshold: float

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
        return cls(rising, float(rising[len(rising) - 1 - exceeding]))

    @classmethod
    def at_escape_rate(cls, scores: Sequence[float], defects: Sequence[float], escape_rate: float) -> "Calibration":
        """The highest threshold below which new defects stay at most at this rate, on average.

        Raises:
            ValueError: there are too few defects for the rate.
        """
        rising = ascending(defects)
        missed = math.floor(escape_rate * (len(rising) + 1) + TOLERANCE)
        if missed < 1:
            raise ValueError(
                f"{len(rising)} defects cannot carry an escape rate of {percent(escape_rate)}: "
                f"{photos_needed(escape_rate)} are needed"
            )
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
        """For each score how often a good photo has it or a higher one, in (0, 1]."""
        count = len(self.scores)
        return (1 + count - np.searchsorted(self.scores, np.asarray(scores, np.float64), side="left")) / (count + 1)

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

        The share of good photos above the k-th smallest of n scores is Beta(n - k + 1, k) distributed.
        """
        return float(stats.beta.ppf(CERTAINTY, self.exceeding + 1, len(self.scores) - self.exceeding))

    def escapes(self, defects: Sequence[float]) -> dict[str, float | int]:
        """How many of some defects stay unseen: count, share, and the exact interval (Clopper and Pearson)."""
        missed = int((np.asarray(defects) <= self.threshold).sum())
        interval = stats.binomtest(missed, len(defects)).proportion_ci(CERTAINTY)
        return {
            "defects": len(defects),
            "missed": missed,
            "rate": missed / len(defects),
            "low": float(interval.low),
            "high": float(interval.high),
        }


def ascending(scores: Sequence[float]) -> np.ndarray:
    rising = np.sort(np.asarray(scores, np.float64))
    if not len(rising) or not np.isfinite(rising).all():
        raise ValueError(f"Expected scores that are finite numbers, at least one, got {len(rising)} of them.")
    return rising


def photos_needed(rate: float) -> int:
    """The fewest calibration photos that a false-alarm or escape rate needs."""
    return max(1, math.ceil(1 / rate - 1 - TOLERANCE))


def lowest_rate(count: int) -> float:
    """The lowest false-alarm rate that this number of photos allows."""
    return 1 / (count + 1)


def cannot_carry(count: int, rate: float) -> str:
    return (
        f"{count} good photos cannot carry a false-alarm rate of {percent(rate)}: it takes {photos_needed(rate)}, and "
        f"these carry {percent(math.ceil(lowest_rate(count) * 1000 - TOLERANCE) / 1000)} at the lowest"
    )


def discoveries(p_values: Sequence[float] | np.ndarray, false_discovery_rate: float) -> np.ndarray:
    """Which of many p-values are anomalous, so that at most this share of those called so are good ones (Benjamini and
    Hochberg 1995; for conformal p-values Bates et al. 2023).

    Returns:
        (N,) booleans.
    """
    p_values = np.asarray(p_values, np.float64)
    if not len(p_values):
        return np.zeros(0, bool)
    return stats.false_discovery_control(p_values) <= false_discovery_rate + TOLERANCE


def percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"
