"""Anomaly data sets in their published layouts, read as `datasets.Dataset` objects with the same columns.

What is named here is imported when it is used, so that who compares photos' files does not wait for `datasets`.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .layout import Layout, Report
    from .rows import FEATURES, Row, build_dataset
    from .specs import LAYOUTS, load_data_set, register_layout

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "layout": ["Layout", "Report"],
        "rows": ["FEATURES", "Row", "build_dataset"],
        "specs": ["LAYOUTS", "load_data_set", "register_layout"],
    },
)

__all__ = ["FEATURES", "LAYOUTS", "Layout", "Report", "Row", "build_dataset", "load_data_set", "register_layout"]
