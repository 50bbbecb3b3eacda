"""From a score to a decision: profiles of a product, calibrated on photos of good parts."""

from .acceptance import Acceptance, Zone
from .calibration import Calibration, discoveries
from .photo_features import Feedback
from .profile import InspectionProfile

__all__ = ["Acceptance", "Calibration", "Feedback", "InspectionProfile", "Zone", "discoveries"]
