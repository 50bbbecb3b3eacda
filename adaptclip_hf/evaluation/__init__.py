"""How well anomalies are found: metrics of images and of pixels, and the paper's protocol around them."""

from .metrics import ImageMetrics, PixelMetrics
from .model_index import eval_results

__all__ = ["ImageMetrics", "PixelMetrics", "eval_results"]
