"""The one way in which an image is scored: everything else stands on it."""

from .images import UnreadableImage
from .reference import PlainReference, Reference
from .result import DetectionResult, Result
from .scorer import AnomalyScorer
from .tiles import View

__all__ = ["AnomalyScorer", "DetectionResult", "PlainReference", "Reference", "Result", "UnreadableImage", "View"]
