"""How well anomalies are found: metrics of images and of pixels, and the paper's protocol around them."""

from pathlib import Path

from .metrics import ImageMetrics, PixelMetrics
from .model_index import eval_results

# evaluate.load(IMAGE_SCORES), after `import evaluate`
IMAGE_SCORES = str(Path(__file__).with_name("image_scores.py"))

__all__ = ["IMAGE_SCORES", "ImageMetrics", "PixelMetrics", "eval_results"]
