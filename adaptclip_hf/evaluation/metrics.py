"""Metrics that take batches as they come: `update` any number of times, `merge`, `compute`."""

import numpy as np
import torch

from .ranking import ranking_figures

# the bits of a float32 in [0, 1] grow with its value: the upper 20 of them number the bins of the histogram
DROPPED_BITS = 12
BINS = (int(np.float32(1).view(np.int32)) >> DROPPED_BITS) + 1


class ImageMetrics:
    """AUROC, AP and F1max of image scores, exact."""

    def __init__(self):
        self.scores: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []

    def update(self, scores, labels):
        """Adds scores (B,) in [0, 1] and labels (B,), 0 normal or 1 anomalous."""
        self.scores.append(np.asarray(scores, np.float32))
        self.labels.append(np.asarray(labels).astype(bool))

    def merge(self, other: "ImageMetrics"):
        self.scores += other.scores
        self.labels += other.labels

    def compute(self) -> dict[str, float]:
        """Fractions `image_auroc`, `image_ap`, `image_f1max`; empty unless there are normal and anomalous images."""
        if not self.scores:
            return {}
        labels = np.concatenate(self.labels)
        values, places = np.unique(np.concatenate(self.scores), return_inverse=True)
        counts = [np.bincount(places[chosen], minlength=len(values)) for chosen in (~labels, labels)]
        return {f"image_{name}": value for name, value in ranking_figures(*counts).items()}


class PixelMetrics:
    """AUROC, AP and F1max of anomaly maps, from a histogram whose bins are 1/2048 of a score's power of two wide."""

    def __init__(self):
        self.counts = np.zeros((2, BINS), np.int64)

    def update(self, anomaly_maps, masks):
        """Adds maps (B, H, W) in [0, 1] and masks (B, H, W), 0 or 1."""
        maps = np.ascontiguousarray(torch.as_tensor(anomaly_maps).float().cpu().numpy())
        bins = maps.view(np.int32) >> DROPPED_BITS
        masks = torch.as_tensor(masks).cpu().numpy() > 0
        for side, chosen in enumerate((~masks, masks)):
            self.counts[side] += np.bincount(bins[chosen], minlength=BINS)

    def merge(self, other: "PixelMetrics"):
        self.counts += other.counts

    def compute(self) -> dict[str, float]:
        """Fractions `pixel_auroc`, `pixel_ap`, `pixel_f1max`; empty unless there are normal and anomalous pixels."""
        return {f"pixel_{name}": value for name, value in ranking_figures(*self.counts).items()}
