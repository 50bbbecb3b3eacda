"""Procedural images of materials and simple objects, normal or with defects and their exact masks."""

from .categories import CATEGORIES, Category, make_category
from .dataset import render_sample, write_dataset
from .defects import DEFECTS

__all__ = ["CATEGORIES", "DEFECTS", "Category", "make_category", "render_sample", "write_dataset"]
