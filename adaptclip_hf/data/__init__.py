"""Anomaly data sets in their published layouts, read as `datasets.Dataset` objects with the same columns."""

from .layout import Layout, Report
from .rows import FEATURES, Row, build_dataset
from .specs import LAYOUTS, load_data_set, register_layout

__all__ = ["FEATURES", "LAYOUTS", "Layout", "Report", "Row", "build_dataset", "load_data_set", "register_layout"]
