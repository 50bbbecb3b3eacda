"""What the engine asks of a model, whatever computes it. Pixel values, features and banks are opaque to the engine.

Imports nothing heavy: a model brings the library that its arrays are of.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ..modeling.bank_content import dtype_name

if TYPE_CHECKING:
    import torch

    from ..modeling.configuration_adaptclip import AdaptCLIPConfig
    from ..modeling.normal_variation import NormalComparison, NormalVariation
    from ..modeling.prompt_bank import PromptBank
    from ..modeling.text_encoder import TextEmbeds
    from ..modeling.vision_encoder import ImageFeatures

Array: TypeAlias = Any  # a tensor of torch, or an array of NumPy
Layers: TypeAlias = tuple[Array, ...]  # one for each layer


class ScoringModel(Protocol):
    """A model that scores images: [`AdaptCLIPModel`] on torch, [`ExportedAdaptCLIP`] and [`LightModel`] on another
    runtime."""

    config: "AdaptCLIPConfig"
    name_or_path: str

    @property
    def backend(self) -> str:
        """What computes: "torch", "onnx" or "openvino"."""

    @property
    def device(self) -> "torch.device": ...

    @property
    def dtype(self) -> "torch.dtype": ...

    def image_features(self, pixel_values: Array) -> "ImageFeatures":
        """Of pixel values (B, 3, S, S)."""

    def encode_text(self, object_name: str | None = None, tokenizer: Any = None) -> "TextEmbeds":
        """Of an object's name; of the model's own by default."""

    def encode_prompts(self, pixel_values: Array) -> "PromptBank":
        """Of normal images (k, 3, S, S)."""

    def __call__(
        self,
        *,
        image_features: "ImageFeatures",
        prompt_bank: "PromptBank | Sequence[PromptBank] | None" = None,
        text_embeds: "TextEmbeds | None" = None,
    ) -> Any:
        """An output with `anomaly_scores` (B,) and `anomaly_maps` (B, S, S), float32 in [0, 1]."""

    def fingerprint(self) -> dict[str, str]:
        """What a prompt bank depends on."""

    def weights_digest(self) -> str:
        """Of all weights that a score depends on."""

    def untrained_adapters(self) -> frozenset[str]:
        """Names of the adapters that are left out of scores."""


class Arrays(Protocol):
    """What is done with a model's arrays beside the model: [`TorchArrays`], or [`NumpyArrays`] of NumPy alone."""

    def without_gradients(self) -> AbstractContextManager:
        """In which nothing is kept for learning."""

    def joined(self, parts: Sequence[Array], axis: int = 0) -> Array:
        """Some arrays as one."""

    def empty(self, count: int, like: Array) -> Array:
        """An array of so many rows, whose values are not set."""

    def encode(self, model: ScoringModel, pixel_values: Array) -> "ImageFeatures":
        """Features of pixel values (B, 3, S, S)."""

    def score(
        self,
        model: ScoringModel,
        features: "ImageFeatures",
        prompt_bank: "PromptBank | Sequence[PromptBank] | None",
        text_embeds: "TextEmbeds | None",
    ) -> Any:
        """The model's output for features."""

    def off_device(self, array: Array) -> np.ndarray:
        """As float32 of NumPy."""

    def mean_tokens(self, features: "ImageFeatures", number: int) -> np.ndarray:
        """(n, d) float32 mean unit patch token of an image in each layer."""

    def nearest_image(self, features: "ImageFeatures", number: int, bank: "PromptBank") -> int:
        """The place in a bank, which knows its variation, of the image that is most like an encoded one as a whole."""

    def compare(self, bank: "PromptBank") -> "NormalComparison":
        """The images of a bank compared with one another."""

    def scaled_alike(self, bank: "PromptBank") -> "NormalVariation":
        """Of tiles that are compared with those of all places: which differ by their place is not known."""

    def unit_tokens(self, features: "ImageFeatures") -> Layers:
        """For each layer the L2-normalised patch tokens (B, L, d)."""

    def bank(
        self,
        features: Layers,
        fingerprint: dict[str, str],
        preprocessing: dict[str, str],
        added: Layers | None = None,
        added_of: Layers | None = None,
    ) -> "PromptBank":
        """A bank of unit tokens."""

    def turned(self, pixel_values: Array, way: str) -> list[Array]:
        """Copies of pixel values (B, 3, S, S): turned by 90, 180 and 270 degrees, or mirrored in each direction."""

    def distance_ratio(self, own: Sequence[Layers], copies: Sequence[Layers]) -> float:
        """How near images lie to the nearest other one with its copies, as a share of the distance without."""

    def something_new(self, own: Array, copies: Array) -> Array:
        """Numbers of the tokens of copies (M, d) that bring something new beside those of their image (L, d)."""

    def owners(self, tokens: Sequence[tuple[int, Array]]) -> Array:
        """For tokens (M, d) of some images, each with its number, the number of the image that each comes from."""


def arrays_of(thing: Any) -> Arrays:
    """What the arrays of a model or a bank are worked on with; of torch where it does not say."""
    own = getattr(thing, "arrays", None)
    if own is not None:
        return own
    from .torch_arrays import TorchArrays

    return TorchArrays()


def backend_of(model: ScoringModel) -> str:
    """What computes; the code that came along with a model of version 0.2 does not say that it is torch."""
    return getattr(model, "backend", "torch")


def dtype_of(model: ScoringModel) -> str:
    """What it computes in: "float32", "bfloat16", ...; or "int8" of an export."""
    return getattr(model, "computes_in", None) or dtype_name(model)
