"""Opens what `adaptclip export` wrote: models that other runtimes compute."""

from .exported_model import ExportedAdaptCLIP, ExportedAdaptCLIPConfig

__all__ = ["ExportedAdaptCLIP", "ExportedAdaptCLIPConfig"]
