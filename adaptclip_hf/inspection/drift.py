"""Whether photos that are called good still look like the photos of the profile."""

from collections import deque

import numpy as np

from .calibration import Calibration
from .noted_drift import Drift

WINDOW = 50  # photos called good
LEVEL = 0.001  # of a test: without drift one window of a thousand is reported


class DriftWatch:
    """Compares the scores of photos that are called good, window by window, with calibration scores of the same label.

    A two-sample Kolmogorov-Smirnov test: p-values of good photos are uniform only over draws of the calibration, and
    with few calibration photos a test of uniformity alone would find drift in anything.
    """

    def __init__(self, calibration: Calibration):
        self.usual = calibration.scores[calibration.scores <= calibration.threshold]
        self.threshold = calibration.threshold
        self.window: deque[float] = deque(maxlen=WINDOW)

    def add(self, score: float) -> Drift | None:
        """Takes one score. Returns a [`Drift`] when a full window differs; then the next window begins.

        Where all of the profile's good photos lie above the threshold, there is nothing to compare with.
        """
        if score > self.threshold or not len(self.usual):
            return None
        self.window.append(score)
        if len(self.window) < WINDOW:
            return None
        from scipy import stats

        window = np.array(self.window)
        self.window.clear()
        test = stats.ks_2samp(window, self.usual)
        if test.pvalue >= LEVEL:
            return None
        higher = bool(np.median(window) > np.median(self.usual))
        return Drift(WINDOW, float(test.statistic), float(test.pvalue), higher)
