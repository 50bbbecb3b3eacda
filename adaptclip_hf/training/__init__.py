"""Training the adapters with transformers' Trainer: examples, feature cache, checkpoints, several processes."""

from ..modeling.adapters_file import load_adapters, save_adapters
from .arguments import AdaptCLIPTrainingArguments
from .feature_cache import FeatureCache
from .prompted_images import PromptedImages, collate_prompted
from .trainer import AdaptCLIPTrainer

__all__ = [
    "AdaptCLIPTrainer",
    "AdaptCLIPTrainingArguments",
    "FeatureCache",
    "PromptedImages",
    "collate_prompted",
    "load_adapters",
    "save_adapters",
]
