"""How well anomalies are found: metrics of images and of pixels."""

from .metrics import ImageMetrics, PixelMetrics

__all__ = ["ImageMetrics", "PixelMetrics"]
