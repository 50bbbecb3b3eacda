"""Anomaly data sets as they lie on disk, as `datasets.Dataset` objects of one kind."""

from .layout import Layout, Report
from .rows import FEATURES, Row, build_dataset
from .specs import LAYOUTS, load_data_set, register_layout

__all__ = ["FEATURES", "LAYOUTS", "Layout", "Report", "Row", "build_dataset", "load_data_set", "register_layout"]
