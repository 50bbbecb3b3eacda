"""What the engine does with arrays of NumPy."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .numpy_tokens import mean_tokens, unit, unit_patch_tokens
from .numpy_variation import NumpyComparison, NumpyVariation, unknown_variation

if TYPE_CHECKING:
    from .light_model import LightFeatures, LightModel
    from .numpy_bank import NumpyBank


class NumpyArrays:
    """See [`Arrays`]."""

    def without_gradients(self) -> AbstractContextManager:
        return nullcontext()

    def joined(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def encode(self, model: "LightModel", pixel_values: np.ndarray) -> "LightFeatures":
        if model.backend == "openvino" or len(pixel_values) < 2:
            return model.image_features(pixel_values)
        parts = [model.image_features(one[None]) for one in pixel_values]  # as TorchArrays does
        return parts[0].joined(parts)

    def score(
        self,
        model: "LightModel",
        features: "LightFeatures",
        prompt_bank: "NumpyBank | Sequence[NumpyBank] | None",
        text_embeds: Any,
    ) -> Any:
        return model(image_features=features, prompt_bank=prompt_bank, text_embeds=text_embeds)

    def off_device(self, array: np.ndarray) -> np.ndarray:
        return array.astype(np.float32, copy=False)

    def mean_tokens(self, features: "LightFeatures", number: int) -> np.ndarray:
        return self._mean_tokens(features, number)[0]

    def nearest_image(self, features: "LightFeatures", number: int, bank: "NumpyBank") -> int:
        assert bank.variation is not None
        own, normals = unit(self._mean_tokens(features, number)), unit(bank.variation.whole)
        return int(np.einsum("bnd,knd->k", own, normals).argmax())

    def compare(self, bank: "NumpyBank") -> NumpyComparison:
        return NumpyComparison.of(bank)

    def scaled_alike(self, bank: "NumpyBank") -> NumpyVariation:
        return unknown_variation(mean_tokens(bank.features), bank.features[0].shape[1])

    @staticmethod
    def _mean_tokens(features: "LightFeatures", number: int) -> np.ndarray:
        """(1, n, d)."""
        return mean_tokens([unit_patch_tokens(layer[number : number + 1]) for layer in features.patch_embeds])
