"""Scores images: every command and every other part of the package uses this code."""

from .images import UnreadableImage
from .reference import PlainReference, Reference
from .result import DetectionResult, Result
from .scorer import AnomalyScorer
from .tiles import View

__all__ = ["AnomalyScorer", "DetectionResult", "PlainReference", "Reference", "Result", "UnreadableImage", "View"]
