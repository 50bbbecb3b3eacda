"""What the engine does with tensors of torch."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..modeling.normal_variation import NormalComparison, NormalVariation, mean_tokens, unknown_variation
from ..modeling.prompt_bank import PromptBank
from ..modeling.prompt_query_adapter import unit_patch_tokens
from ..modeling.text_encoder import TextEmbeds
from ..modeling.vision_encoder import ImageFeatures
from .contract import Arrays, Layers, ScoringModel, backend_of
from .torch_copies import distance_ratio, something_new, turned


class TorchArrays(Arrays):
    """See [`Arrays`]."""

    def without_gradients(self) -> AbstractContextManager:
        return torch.no_grad()

    def joined(self, parts: Sequence[torch.Tensor], axis: int = 0) -> torch.Tensor:
        return torch.cat(list(parts), axis)

    def empty(self, count: int, like: torch.Tensor) -> torch.Tensor:
        return like.new_empty((count, *like.shape[1:]))

    @torch.inference_mode()
    def encode(self, model: ScoringModel, pixel_values: torch.Tensor) -> ImageFeatures:
        one_by_one = model.device.type == "cpu" and model.dtype == torch.float32 and backend_of(model) == "torch"
        if not one_by_one or len(pixel_values) < 2:
            return model.image_features(pixel_values.to(model.device))
        # one image fits a processor's caches and several do not: together they take longer than one by one
        parts = [model.image_features(one) for one in pixel_values.split(1)]
        layers = zip(*(part.patch_embeds for part in parts), strict=True)
        return ImageFeatures(torch.cat([part.image_embeds for part in parts]), tuple(map(torch.cat, layers)))

    @torch.inference_mode()
    def score(
        self,
        model: ScoringModel,
        features: ImageFeatures,
        prompt_bank: PromptBank | Sequence[PromptBank] | None,
        text_embeds: TextEmbeds | None,
    ) -> Any:
        return model(image_features=features, prompt_bank=prompt_bank, text_embeds=text_embeds)

    def off_device(self, array: torch.Tensor) -> np.ndarray:
        return array.float().cpu().numpy()

    @torch.inference_mode()
    def mean_tokens(self, features: ImageFeatures, number: int) -> np.ndarray:
        return self._mean_tokens(features, number)[0].float().cpu().numpy()

    @torch.inference_mode()
    def nearest_image(self, features: ImageFeatures, number: int, bank: PromptBank) -> int:
        assert bank.variation is not None
        tokens = self._mean_tokens(features, number)
        own, normals = (functional.normalize(each.float(), dim=-1) for each in (tokens, bank.variation.whole))
        return int(torch.einsum("bnd,knd->k", own, normals).argmax())

    def compare(self, bank: PromptBank) -> NormalComparison:
        return NormalComparison.of(bank)

    def scaled_alike(self, bank: PromptBank) -> NormalVariation:
        return unknown_variation(mean_tokens(bank.features), bank.features[0].shape[1])

    def unit_tokens(self, features: ImageFeatures) -> Layers:
        return tuple(map(unit_patch_tokens, features.patch_embeds))

    def bank(
        self,
        features: Layers,
        fingerprint: dict[str, str],
        preprocessing: dict[str, str],
        added: Layers | None = None,
        added_of: Layers | None = None,
    ) -> PromptBank:
        return PromptBank(features, fingerprint, preprocessing, added=added, added_of=added_of)

    def turned(self, pixel_values: torch.Tensor, way: str) -> list[torch.Tensor]:
        return turned(pixel_values, way)

    def distance_ratio(self, own: Sequence[Layers], copies: Sequence[Layers]) -> float:
        return distance_ratio(own, copies)

    def something_new(self, own: torch.Tensor, copies: torch.Tensor) -> torch.Tensor:
        return something_new(own, copies)

    def owners(self, tokens: Sequence[tuple[int, torch.Tensor]]) -> torch.Tensor:
        return torch.cat([torch.full((len(some),), image, device=some.device) for image, some in tokens])

    @staticmethod
    def _mean_tokens(features: ImageFeatures, number: int) -> torch.Tensor:
        """(1, n, d)."""
        return mean_tokens([unit_patch_tokens(layer[number : number + 1]) for layer in features.patch_embeds])
