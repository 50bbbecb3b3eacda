"""From a score to a decision: profiles of a product, calibrated on photos of good parts.


What is named here is imported when it is used, so that who reads what a run noted does not wait for torch.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .acceptance import Acceptance, Zone
    from .calibration import Calibration, discoveries
    from .photo_features import Feedback
    from .profile import InspectionProfile

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "acceptance": ["Acceptance", "Zone"],
        "calibration": ["Calibration", "discoveries"],
        "photo_features": ["Feedback"],
        "profile": ["InspectionProfile"],
    },
)

__all__ = ["Acceptance", "Calibration", "Feedback", "InspectionProfile", "Zone", "discoveries"]
