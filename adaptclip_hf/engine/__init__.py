"""The one way in which an image is scored: everything else stands on it."""

from .detector import AnomalyDetector
from .loading import DEFAULT_MODEL
from .result import DetectionResult

__all__ = ["DEFAULT_MODEL", "AnomalyDetector", "DetectionResult"]
