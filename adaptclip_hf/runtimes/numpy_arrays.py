"""What the engine does with arrays of NumPy."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.augments import ROTATIONS, WHOLE_NUMBERS
from .numpy_tokens import mean_tokens, unit, unit_patch_tokens
from .numpy_variation import NumpyComparison, NumpyVariation, unknown_variation

Layers = tuple[np.ndarray, ...]

if TYPE_CHECKING:
    from .light_model import LightFeatures, LightModel
    from .numpy_bank import NumpyBank


class NumpyArrays:
    """See [`Arrays`]."""

    def without_gradients(self) -> AbstractContextManager:
        return nullcontext()

    def joined(self, parts: Sequence[np.ndarray], axis: int = 0) -> np.ndarray:
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)

    def empty(self, count: int, like: np.ndarray) -> np.ndarray:
        return np.empty((count, *like.shape[1:]), like.dtype)

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

    def unit_tokens(self, features: "LightFeatures") -> Layers:
        return tuple(map(unit_patch_tokens, features.patch_embeds))

    def bank(
        self,
        features: Layers,
        fingerprint: dict[str, str],
        preprocessing: dict[str, str],
        added: Layers | None = None,
        added_of: Layers | None = None,
    ) -> "NumpyBank":
        from .numpy_bank import NumpyBank

        return NumpyBank(features, fingerprint, preprocessing, added=added, added_of=added_of)

    def turned(self, pixel_values: np.ndarray, way: str) -> list[np.ndarray]:
        if way == ROTATIONS:
            copies = [np.rot90(pixel_values, quarters, (2, 3)) for quarters in (1, 2, 3)]
        else:
            copies = [np.flip(pixel_values, axis) for axis in (3, 2)]
        return list(map(np.ascontiguousarray, copies))

    def distance_ratio(self, own: Sequence[Layers], copies: Sequence[Layers]) -> float:
        features, added = (tuple(map(np.concatenate, zip(*each, strict=True))) for each in (own, copies))
        owners = np.repeat(np.arange(len(own)), added[0].shape[1])
        flat = tuple(layer.reshape(-1, layer.shape[-1]) for layer in added)
        banks = self.bank(features, {}, {}), self.bank(features, {}, {}, flat, (owners,) * len(flat))
        without, nearer = (self.compare(bank).variation().mean.mean(-1) for bank in banks)
        return float((nearer / np.maximum(without, 1e-6)).mean()) if (without > 1e-6).all() else 1.0

    def something_new(self, own: np.ndarray, copies: np.ndarray) -> np.ndarray:
        own, copies = (np.rint(tokens * np.float32(WHOLE_NUMBERS)) for tokens in (own, copies))
        among = own @ own.T
        np.fill_diagonal(among, -(WHOLE_NUMBERS**2))
        similarity = (copies @ own.T).max(1)
        order = np.argsort(similarity, kind="stable")
        nearest = np.sort(among.max(1))
        median = nearest[(len(nearest) - 1) // 2]  # the lower one of an even number, as torch has it
        return order[similarity[order] < median][: len(own)]

    def owners(self, tokens: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
        return np.concatenate([np.full(len(some), image) for image, some in tokens])

    @staticmethod
    def _mean_tokens(features: "LightFeatures", number: int) -> np.ndarray:
        """(1, n, d)."""
        return mean_tokens([unit_patch_tokens(layer[number : number + 1]) for layer in features.patch_embeds])
