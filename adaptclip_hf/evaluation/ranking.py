"""A ranking: how many normal and anomalous items lie at or above each score, and the figures that follow from it."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """Normal and anomalous items (images or pixels) by falling score; there are some of both kinds.

    Attributes:
        thresholds: (n,) distinct scores, highest first.
        false: (n,) number of normal items at or above each threshold.
        true: (n,) number of anomalous items.
    """

    thresholds: np.ndarray
    false: np.ndarray
    true: np.ndarray

    @classmethod
    def of_counts(cls, scores: np.ndarray, normal: np.ndarray, anomalous: np.ndarray) -> "Ranking | None":
        """From the counts (n,) at n rising scores; `None` if one kind is missing."""
        if not normal.any() or not anomalous.any():
            return None
        return cls(scores[::-1], np.cumsum(normal[::-1]).astype(float), np.cumsum(anomalous[::-1]).astype(float))

    @classmethod
    def of_scores(cls, scores: np.ndarray, labels: np.ndarray) -> "Ranking | None":
        """From scores (n,) and labels (n,), in any order."""
        values, value_of = np.unique(scores, return_inverse=True)
        counts = [np.bincount(value_of[chosen], minlength=len(values)) for chosen in (~labels, labels)]
        return cls.of_counts(values, *counts)

    @property
    def recall(self) -> np.ndarray:
        return self.true / self.true[-1]

    @property
    def fall_out(self) -> np.ndarray:
        """The false-positive rate."""
        return self.false / self.false[-1]

    @property
    def precision(self) -> np.ndarray:
        return self.true / (self.true + self.false)

    @property
    def f1(self) -> np.ndarray:
        return 2 * self.true / (self.true + self.false + self.true[-1])

    def figures(self) -> dict[str, float]:
        """`auroc`, `ap` (see `precision_recall`), `average_precision` (step-wise) and `f1max` as fractions, and
        `threshold`: the lowest score that F1max counts as anomalous."""
        best = int(self.f1.argmax())
        return {
            "auroc": float(np.trapezoid(np.r_[0, self.recall], np.r_[0, self.fall_out])),
            "ap": float(np.trapezoid(*self.precision_recall()[::-1])),
            "average_precision": float((np.diff(np.r_[0, self.recall]) * self.precision).sum()),
            "f1max": float(self.f1[best]),
            "threshold": float(self.thresholds[best]),
        }

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Recall and precision at (0, 1) and at each distinct score; AP is the area under straight lines between them.

        Points of one recall are in rising order of precision, as in the reference ("Evaluation protocol"): a line goes
        from the highest precision at a recall to the lowest at the next. scikit-learn's `precision_recall_curve` has
        them in falling order, and `auc` of that is larger: 1 for a perfect ranking.
        """
        recall, precision = np.r_[0, self.recall], np.r_[1, self.precision]
        order = np.lexsort((precision, recall))
        return recall[order], precision[order]

    def error_bounds(self) -> dict[str, float]:
        """How far the figures may be from those of the unrounded scores.

        The true figure lies within the bound whatever the true order of the items that share a threshold.
        """
        true, false = np.r_[0, self.true], np.r_[0, self.false]
        gained, mistaken = np.diff(true), np.diff(false)
        highest_f1 = 2 * true[1:] / (true[1:] + false[:-1] + true[-1])
        return {
            "auroc": float((gained * mistaken).sum() / (2 * true[-1] * false[-1])),
            "ap": self._bound_of_ap(),
            "average_precision": self._bound_of_average_precision(),
            "f1max": float(max(0.0, highest_f1.max() - self.f1.max())),
        }

    def _bound_of_average_precision(self) -> float:
        steps = np.flatnonzero(np.diff(np.r_[0, self.true]))
        true, after, before = self.true[steps], self.false[steps], np.r_[0, self.false][steps]
        gained = np.diff(np.r_[0, true])
        tied, best = true / (true + after), true / (true + before)
        first = true - gained + 1
        worst = first / (first + after)
        return float((gained * np.maximum(best - tied, tied - worst)).sum() / self.true[-1])

    def _bound_of_ap(self) -> float:
        steps = np.flatnonzero(np.diff(np.r_[0, self.true]))
        true, gained = self.true[steps], np.diff(np.r_[0, self.true[steps]])
        before = np.r_[0, self.false][steps]
        after = self.false[steps]
        following = np.r_[after[1:], self.false[-1]]
        # where the recall of a step is reached: the precision there, and the lowest one before the next anomalous item
        arrival = true / (true + after), true / (true + before)
        lowest = true / (true + following), true / (true + np.maximum(after, np.r_[before[1:], self.false[-1]]))
        departure = np.r_[1, arrival[0][:-1]], np.r_[1, arrival[1][:-1]]
        at_ends = ((departure[1] - departure[0]) + (lowest[1] - lowest[0])) / 2
        within = true - gained
        inside = np.maximum(arrival[1], departure[1]) - np.minimum(lowest[0], within / np.maximum(within + after, 1))
        return float((gained * np.where(gained > 1, inside, at_ends)).sum() / true[-1])
