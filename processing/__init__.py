"""Images and prompts into tensors, and the model's maps back to the images' own sizes."""

from .image_processing_adaptclip import AdaptCLIPImageProcessor
from .processing_adaptclip import AdaptCLIPProcessor

__all__ = ["AdaptCLIPImageProcessor", "AdaptCLIPProcessor"]
