"""Anomaly data sets as they lie on disk, as `datasets.Dataset` objects of one kind."""

from .rows import FEATURES, Row, build_dataset
from .specs import LAYOUTS, load_data_set

__all__ = ["FEATURES", "LAYOUTS", "Row", "build_dataset", "load_data_set"]
