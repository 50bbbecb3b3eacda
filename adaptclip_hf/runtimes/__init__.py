"""Opens what `adaptclip export` wrote: models that other runtimes compute.

What is named here is imported when it is used, so that who runs a graph does not wait for torch.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .exported_model import ExportedAdaptCLIP, ExportedAdaptCLIPConfig

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"exported_model": ["ExportedAdaptCLIP", "ExportedAdaptCLIPConfig"]}
)

__all__ = ["ExportedAdaptCLIP", "ExportedAdaptCLIPConfig"]
