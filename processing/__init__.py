"""Images and prompts into tensors, and the model's maps back to the images' own sizes.

What is named here is imported when it is used, so that who opens photos alone does not wait for torch.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .image_processing_adaptclip import AdaptCLIPImageProcessor
    from .processing_adaptclip import AdaptCLIPProcessor

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "image_processing_adaptclip": ["AdaptCLIPImageProcessor"],
        "processing_adaptclip": ["AdaptCLIPProcessor"],
    },
)

__all__ = ["AdaptCLIPImageProcessor", "AdaptCLIPProcessor"]
