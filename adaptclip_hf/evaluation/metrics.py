"""Metrics that take batch after batch: `update` any number of times, `merge` in any order, `compute`."""

from collections.abc import Hashable, Iterable

import numpy as np
import torch
from scipy import ndimage

from .ranking import Ranking
from .score_histogram import MOST_DROPPED_BITS, ScoreHistogram, bits_of

OVERKILL = (2, 5, 10)
PRO_LIMIT = 0.3
EIGHT_NEIGHBOURS = np.ones((3, 3))
# false-positive rates between which AUPIMO is integrated
PIMO_LIMITS = (1e-5, 1e-4)
# what is counted for each score: all pixels; anomalous pixels; each anomalous pixel as a share of its region, and as a
# share of its image's anomalous pixels; each pixel of a normal image as a share of that image
PIXELS, ANOMALOUS, OVERLAP, RECALL, FALL_OUT = range(5)

# the weight of a region or an image, shared among its pixels in whole numbers, whose sum is the same in any order
WHOLE = 2**40


class ImageMetrics:
    """Exact figures of image scores, and of objects seen in several images (reference, "Evaluation protocol").

    Example:

    ```python
    >>> from adaptclip_hf.evaluation import ImageMetrics

    >>> metrics = ImageMetrics()
    >>> metrics.update([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    >>> figures = metrics.compute()
    >>> figures["image_auroc"], figures["image_ap"], figures["image_average_precision"]
    (1.0, 0.875, 1.0)
    ```
    """

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.labels: list[bool] = []
        self.sample_ids: list[Hashable] = []

    def update(self, scores, labels, sample_ids: Iterable[Hashable] | None = None):
        """Adds images.

        Args:
            scores: (B,), higher is more anomalous.
            labels: (B,), 0 normal or 1 anomalous.
            sample_ids: (B,), the same for all images of one object.

        Raises:
            ValueError: lengths differ, scores are not finite, labels are not 0 or 1, or `sample_ids` are given to some
                updates only.
        """
        scores, labels = np.asarray(scores, np.float32), np.asarray(labels)
        if scores.ndim != 1 or labels.shape != scores.shape:
            raise ValueError(f"Expected scores (B,) and labels (B,), got {scores.shape} and {labels.shape}.")
        if not np.isfinite(scores).all():
            raise ValueError("scores hold values that are not finite.")
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(f"Expected labels of 0 and 1, got {np.unique(labels)[:5].tolist()}.")
        ids = [] if sample_ids is None else np.asarray(sample_ids).tolist()
        if sample_ids is not None and len(ids) != len(scores):
            raise ValueError(f"Expected {len(scores)} sample_ids, one an image, got {len(ids)}.")
        if self.scores and len(scores) and bool(ids) != bool(self.sample_ids):
            raise ValueError("Give sample_ids with every update, or with none.")
        self.scores += scores.tolist()
        self.labels += labels.astype(bool).tolist()
        self.sample_ids += ids

    def merge(self, other: "ImageMetrics"):
        """Adds the images of another one."""
        self.update(other.scores, other.labels, other.sample_ids or None)

    def compute(self) -> dict[str, float]:
        """Figures as fractions; empty unless there are normal and anomalous images.

        Returns:
            `image_auroc`, `image_ap` (the paper's program's, see [`Ranking.precision_recall`]; below 1 for a perfect
            ranking of few images: 0.875 for two and two),
            `image_average_precision` (the usual step-wise one: 1 for a perfect ranking), `image_f1max`,
            `image_threshold` (of F1max), `image_overkill@2`, `@5`, `@10` (the share of normal images at or above the
            2nd, 5th, 10th percentile of the anomalous ones); with `sample_ids` the same as `sample_*`, where a sample's
            score and label are the largest of its images.
        """
        scores, labels = np.asarray(self.scores), np.asarray(self.labels, bool)
        figures = score_figures("image", scores, labels)
        if self.sample_ids:
            samples, sample_of = np.unique(np.asarray(self.sample_ids), return_inverse=True)
            highest, anomalous = np.full(len(samples), -np.inf), np.zeros(len(samples), bool)
            np.maximum.at(highest, sample_of, scores)
            np.logical_or.at(anomalous, sample_of, labels)
            figures |= score_figures("sample", highest, anomalous)
        return figures


def score_figures(kind: str, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    ranking = Ranking.of_scores(scores, labels)
    if ranking is None:
        return {}
    figures = {f"{kind}_{name}": value for name, value in ranking.figures().items()}
    for percent in OVERKILL:
        limit = np.percentile(scores[labels], percent)
        figures[f"{kind}_overkill@{percent}"] = float((scores[~labels] >= limit).mean())
    return figures


class PixelMetrics:
    """Figures of anomaly maps; memory does not grow with the number of maps.

    Scores are counted in bins that follow them: each float32 has its own as long as memory allows, which it does for
    scores that lie close together; scores that fill [0, 1] are rounded by up to 2**-18 of their value. All counts are
    whole numbers, so parts that several processes counted merge to the same bits in any order. The figures are exact
    for the rounded scores.
    [`error_bounds`] says how far the figures of the unrounded scores may be from them: at most 1e-5 for many continuous
    maps, more where many different scores fall into few bins; equal scores add no error.
    """

    def __init__(self):
        self.counts = ScoreHistogram(columns=5)

    def update(self, anomaly_maps, masks):
        """Adds maps.

        Args:
            anomaly_maps: (B, H, W) floats in [0, 1].
            masks: (B, H, W), 0 normal or 1 anomalous.

        Raises:
            ValueError: shapes differ, or maps have values outside [0, 1] or values that are not finite.
        """
        maps = torch.as_tensor(anomaly_maps).detach().float().cpu().contiguous().numpy()
        masks = torch.as_tensor(masks).detach().cpu().numpy() > 0
        if maps.ndim != 3 or masks.shape != maps.shape:
            raise ValueError(f"Expected maps and masks of one shape (B, H, W), got {maps.shape} and {masks.shape}.")
        if maps.size and not (maps.min() >= 0 and maps.max() <= 1):
            raise ValueError("Expected anomaly maps in [0, 1]; some values are outside or not finite.")
        for anomaly_map, mask in zip(maps, masks, strict=True):
            slots = self.counts.slots(bits_of(anomaly_map))
            self.counts.add(PIXELS, slots.ravel(), 1)
            if mask.any():
                regions = ndimage.label(mask, EIGHT_NEIGHBOURS)[0][mask]
                self.counts.add(ANOMALOUS, slots[mask], 1)
                self.counts.add(OVERLAP, slots[mask], (WHOLE // np.maximum(np.bincount(regions), 1))[regions])
                self.counts.add(RECALL, slots[mask], WHOLE // len(regions))
            else:
                self.counts.add(FALL_OUT, slots.ravel(), WHOLE // mask.size)

    def merge(self, other: "PixelMetrics"):
        """Adds the maps of another one."""
        self.add_state(other.state())

    def state(self) -> dict[str, np.ndarray]:
        """All counts, small enough to keep: `bins` (n,), `counts` (5, n), and `dropped_bits` (), how wide bins are."""
        bins, counts = self.counts.occupied()
        return {"bins": bins, "counts": counts, "dropped_bits": np.array(self.counts.dropped_bits)}

    def add_state(self, state: dict[str, np.ndarray]):
        """Adds the counts that `state` of another one returned; those of earlier versions have the widest bins.

        Raises:
            ValueError: a version that counted something else made them.
        """
        if len(state["counts"]) != self.counts.columns:
            raise ValueError(f"expected {self.counts.columns} counts of each score, got {len(state['counts'])}")
        dropped_bits = int(state.get("dropped_bits", MOST_DROPPED_BITS))
        self.counts.drop_bits(dropped_bits)
        slots = self.counts.slots(state["bins"] << dropped_bits)
        for column, counts in enumerate(state["counts"]):
            self.counts.add(column, slots, counts)

    def ranking(self) -> Ranking | None:
        """The pixels by falling score; `None` unless there are normal and anomalous ones."""
        _, (pixels, anomalous, *_) = self.counts.occupied()
        return Ranking.of_counts(self.counts.lower_edges(), pixels - anomalous, anomalous)

    def compute(self) -> dict[str, float]:
        """Figures as fractions; empty unless there are normal and anomalous pixels.

        Returns:
            `pixel_auroc`, `pixel_ap` (as `image_ap`), `pixel_average_precision` (step-wise), `pixel_f1max`,
            `pixel_threshold` (of F1max); `pixel_aupro`: the mean overlap of the masks' connected regions (8 neighbours)
            with the pixels at or above a threshold, integrated exactly over false-positive rates from 0 to 0.3 and
            divided by 0.3; with normal images also `pixel_aupimo` (Bertoldo et al., BMVC 2024): the mean recall of the
            anomalous images' pixels, integrated over the logarithm of the false-positive rate of normal images only,
            from 1e-5 to 1e-4.
        """
        ranking = self.ranking()
        if ranking is None:
            return {}
        figures = {f"pixel_{name}": value for name, value in ranking.figures().items()}
        return figures | {name: value for name, (value, _) in self._areas(ranking).items()}

    def error_bounds(self) -> dict[str, float]:
        """How far each figure may be from that of the unrounded scores, whatever their order within the bins."""
        ranking = self.ranking()
        if ranking is None:
            return {}
        bounds = {f"pixel_{name}": value for name, value in ranking.error_bounds().items()}
        return bounds | {name: bound for name, (_, bound) in self._areas(ranking).items()}

    def _areas(self, ranking: Ranking) -> dict[str, tuple[float, float]]:
        """AUPRO and, with normal images, AUPIMO, each with its error bound."""
        areas = {"pixel_aupro": self._aupro(ranking)}
        if self.counts.occupied()[1][FALL_OUT].any():
            areas["pixel_aupimo"] = self._aupimo()
        return areas

    def _aupro(self, ranking: Ranking) -> tuple[float, float]:
        """AUPRO and its error bound."""
        weights = self.counts.occupied()[1][OVERLAP][::-1]
        overlap = np.r_[0, np.cumsum(weights / weights.sum())]
        fall_out = np.r_[0, ranking.fall_out]
        last = int(np.searchsorted(fall_out, PRO_LIMIT, side="right"))
        at_limit = np.interp(PRO_LIMIT, fall_out, overlap)
        area = np.trapezoid(np.r_[overlap[:last], at_limit], np.r_[fall_out[:last], PRO_LIMIT])
        steps = np.diff(fall_out[: last + 1]) * np.diff(overlap[: last + 1])
        return float(area / PRO_LIMIT), float(steps.sum() / 2 / PRO_LIMIT)

    def _aupimo(self) -> tuple[float, float]:
        """AUPIMO, the mean over the anomalous images, and its error bound.

        The mean of the images' areas is the area under their mean curve, which is counted batch by batch. Between two
        thresholds the curve is linear in the logarithm of the rate; below the lowest rate that occurs it is the recall
        at a rate of zero.
        """
        counts = self.counts.occupied()[1]
        recall, fall_out = (
            np.r_[0, np.cumsum(counts[column][::-1] / counts[column].sum())] for column in (RECALL, FALL_OUT)
        )
        clear = int(np.flatnonzero(fall_out == 0)[-1])
        low, high = np.log(PIMO_LIMITS)
        rates = np.r_[-np.inf, np.log(fall_out[clear + 1 :])]
        recall = recall[clear:]
        rates[0] = min(low, rates[1])
        unknown = 0.0
        if rates[1] > low:  # the lowest rate lies inside the limits: the curve is a step there
            unknown = (min(rates[1], high) - low) * (recall[1] - recall[0])
            rates, recall = np.insert(rates, 1, rates[1]), np.insert(recall, 1, recall[0])
        inside = (rates > low) & (rates < high)
        ends = np.interp([low, high], rates, recall)
        rates, recall = np.r_[low, rates[inside], high], np.r_[ends[0], recall[inside], ends[1]]
        width = high - low
        bound = (np.diff(rates) * np.diff(recall)).sum() / 2 + unknown
        return float(np.trapezoid(recall, rates) / width), float(bound / width)
