"""Training the adapters with transformers' Trainer: examples, feature cache, checkpoints, several processes."""

from .arguments import AdaptCLIPTrainingArguments
from .checkpoints import load_adapters, save_adapters
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
