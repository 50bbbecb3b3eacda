"""Scores images: every command and every other part of the package uses this code.

What is named here is imported when it is used, so that who draws heatmaps or reads rows does not wait for torch.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .images import UnreadableImage
    from .reference import PlainReference, Reference
    from .result import DetectionResult, Result
    from .scorer import AnomalyScorer
    from .tiles import View

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "images": ["UnreadableImage"],
        "reference": ["PlainReference", "Reference"],
        "result": ["DetectionResult", "Result"],
        "scorer": ["AnomalyScorer"],
        "tiles": ["View"],
    },
)

__all__ = ["AnomalyScorer", "DetectionResult", "PlainReference", "Reference", "Result", "UnreadableImage", "View"]
