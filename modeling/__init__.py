"""The AdaptCLIP model: configuration, frozen CLIP encoders, adapters, alignment, fusion and loss.

What is named here is imported when it is used, so that who reads what a bank says of itself does not wait for torch.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from .configuration_adaptclip import AdaptCLIPConfig
    from .modeling_adaptclip import AdaptCLIPModel, AdaptCLIPOutput
    from .prompt_bank import PromptBank
    from .text_encoder import TextEmbeds
    from .variants import register_adapter
    from .vision_encoder import ImageFeatures

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration_adaptclip": ["AdaptCLIPConfig"],
        "modeling_adaptclip": ["AdaptCLIPModel", "AdaptCLIPOutput"],
        "prompt_bank": ["PromptBank"],
        "text_encoder": ["TextEmbeds"],
        "variants": ["register_adapter"],
        "vision_encoder": ["ImageFeatures"],
    },
)

__all__ = [
    "AdaptCLIPConfig",
    "AdaptCLIPModel",
    "AdaptCLIPOutput",
    "ImageFeatures",
    "PromptBank",
    "TextEmbeds",
    "register_adapter",
]
