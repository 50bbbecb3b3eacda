"""Procedural images of materials and simple objects, normal or with defects and their exact masks.

What is named here is imported when it is used, so that who reads a verdict draws nothing.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .categories import CATEGORIES, Category, make_category
    from .dataset import render_sample, write_dataset
    from .defects import DEFECTS

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "categories": ["CATEGORIES", "Category", "make_category"],
        "dataset": ["render_sample", "write_dataset"],
        "defects": ["DEFECTS"],
    },
)

__all__ = ["CATEGORIES", "DEFECTS", "Category", "make_category", "render_sample", "write_dataset"]
