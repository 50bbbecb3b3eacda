"""What the engine asks of a model, whatever computes it."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from ..modeling.configuration_adaptclip import AdaptCLIPConfig
from ..modeling.prompt_bank import PromptBank
from ..modeling.text_encoder import TextEmbeds
from ..modeling.vision_encoder import ImageFeatures


class ScoringModel(Protocol):
    """A model that scores images: [`AdaptCLIPModel`] on torch, [`ExportedAdaptCLIP`] on another runtime."""

    config: AdaptCLIPConfig
    name_or_path: str

    @property
    def backend(self) -> str:
        """What computes: "torch", "onnx" or "openvino"."""

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def image_features(self, pixel_values: torch.Tensor) -> ImageFeatures:
        """Of pixel values (B, 3, S, S)."""

    def encode_text(self, object_name: str | None = None, tokenizer: Any = None) -> TextEmbeds:
        """Of an object's name; of the model's own by default."""

    def encode_prompts(self, pixel_values: torch.Tensor) -> PromptBank:
        """Of normal images (k, 3, S, S)."""

    def __call__(
        self,
        *,
        image_features: ImageFeatures,
        prompt_bank: PromptBank | Sequence[PromptBank] | None = None,
        text_embeds: TextEmbeds | None = None,
    ) -> Any:
        """An output with `anomaly_scores` (B,) and `anomaly_maps` (B, S, S), float32 in [0, 1]."""

    def fingerprint(self) -> dict[str, str]:
        """What a prompt bank depends on."""

    def weights_digest(self) -> str:
        """Of all weights that a score depends on."""

    def untrained_adapters(self) -> frozenset[str]:
        """Names of the adapters that are left out of scores."""
