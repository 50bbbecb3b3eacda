"""From a score to a decision: profiles of a product, calibrated on photos of good parts."""

from .calibration import Calibration, discoveries
from .profile import InspectionProfile

__all__ = ["Calibration", "InspectionProfile", "discoveries"]
