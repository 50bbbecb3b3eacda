"""The AdaptCLIP model: configuration, frozen CLIP encoders, adapters, alignment, fusion and loss."""

from .configuration_adaptclip import AdaptCLIPConfig
from .modeling_adaptclip import AdaptCLIPModel, AdaptCLIPOutput
from .prompt_bank import PromptBank
from .text_encoder import TextEmbeds
from .variants import register_adapter
from .vision_encoder import ImageFeatures

__all__ = [
    "AdaptCLIPConfig",
    "AdaptCLIPModel",
    "AdaptCLIPOutput",
    "ImageFeatures",
    "PromptBank",
    "TextEmbeds",
    "register_adapter",
]
