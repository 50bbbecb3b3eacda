"""Figures of a category during training."""

from transformers import EvalPrediction

from ..evaluation import ImageMetrics, PixelMetrics
from ..modeling.loss import UNKNOWN_MASK


class CategoryMetrics:
    """Trainer's `compute_metrics` for `batch_eval_metrics=True`: image and pixel figures of one evaluation set."""

    def __init__(self):
        self.images, self.pixels = ImageMetrics(), PixelMetrics()

    def __call__(self, prediction: EvalPrediction, compute_result: bool) -> dict[str, float]:
        scores, maps = prediction.predictions
        labels, masks = prediction.label_ids
        self.images.update(scores.float().cpu(), labels.cpu())
        known = masks[:, 0, 0] != UNKNOWN_MASK
        if known.any():
            self.pixels.update(maps[known], masks[known])
        if not compute_result:
            return {}
        images, pixels = self.images, self.pixels
        self.images, self.pixels = ImageMetrics(), PixelMetrics()
        return images.compute() | pixels.compute()
