"""Models that other runtimes compute: what `adaptclip export` wrote, opened."""

from .exported_model import ExportedAdaptCLIP, ExportedAdaptCLIPConfig

__all__ = ["ExportedAdaptCLIP", "ExportedAdaptCLIPConfig"]
