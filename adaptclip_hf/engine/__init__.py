"""The one way in which an image is scored: everything else stands on it."""

from .detector import AnomalyDetector
from .loading import DEFAULT_MODEL
from .result import DetectionResult
from .view import View

__all__ = ["DEFAULT_MODEL", "AnomalyDetector", "DetectionResult", "View"]
