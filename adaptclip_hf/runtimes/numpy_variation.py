"""How normal images differ from one another, in NumPy: what `modeling/normal_variation.py` computes in torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..modeling.bank_content import (
    FIELDS,
    LEAST_SPREAD,
    MOST_COMPARED,
    OWN_WEIGHT,
    SMALLEST_SPREAD,
    SMALLEST_WHOLE,
    UNKNOWN_SPREAD,
)
from .numpy_tokens import mean_tokens, whole_distances

if TYPE_CHECKING:
    from .numpy_bank import NumpyBank


@dataclass(frozen=True, eq=False)
class NumpyVariation:
    """As [`NormalVariation`]."""

    mean: np.ndarray
    spread: np.ndarray
    whole_scale: np.ndarray
    whole: np.ndarray

    def to(self, device: Any) -> "NumpyVariation":
        """Itself: its arrays lie in the memory that a runtime reads."""
        return self

    def tensors(self) -> dict[str, np.ndarray]:
        """Its arrays by their names."""
        return {name: getattr(self, name) for name in FIELDS}


@dataclass(frozen=True, eq=False)
class NumpyComparison:
    """As [`NormalComparison`]."""

    minima: np.ndarray
    queries: np.ndarray
    whole: np.ndarray

    @classmethod
    def of(cls, bank: "NumpyBank") -> "NumpyComparison":
        """Compares the images of a bank."""
        count = len(bank)
        queries = np.linspace(0, count - 1, min(count, MOST_COMPARED), dtype=np.float32).round().astype(np.int64)
        minima = []
        for index, layer in enumerate(bank.features):
            asking = layer[queries].astype(np.float32, copy=False)
            nearest = [nearest_distances(asking, tokens) for tokens in bank.tokens_by_image(index)]
            minima.append(np.stack(nearest, 1))
        return cls(np.stack(minima), queries, mean_tokens(bank.features))

    def variation(self, images: Sequence[int] | None = None) -> NumpyVariation:
        """The variation among some of the images, by their numbers; among all by default."""
        queries, minima, whole = self.queries, self.minima, self.whole
        kept = np.arange(len(whole))
        if images is not None:
            kept = np.asarray(list(images))
            asked = np.isin(queries, kept)
            queries, minima, whole = queries[asked], minima[:, asked][:, :, kept], whole[kept]
        itself = queries[:, None] == kept[None]
        own = np.where(itself[None, :, :, None], np.float32(np.inf), minima).min(2)  # (n, q, L)
        if len(kept) < 2 or not len(queries):
            return unknown_variation(whole, own.shape[-1])
        mean, spread = shrunk(own)
        scale = np.maximum(whole_distances(whole, whole, itself=True).mean(0), np.float32(SMALLEST_WHOLE))
        return NumpyVariation(mean, spread, scale, whole)


def nearest_distances(images: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """(q, L, d), (N, d) -> (q, L): of each patch to the nearest token."""
    others = tokens.astype(np.float32, copy=False).T
    return np.maximum(1 - np.stack([(image @ others).max(-1) for image in images]), 0)


def unknown_variation(whole: np.ndarray, places: int) -> NumpyVariation:
    """Of one normal image, or of images whose places are not alike: distances are only scaled."""
    layers = whole.shape[1]
    mean = np.zeros((layers, places), np.float32)
    scale = np.full(layers, UNKNOWN_SPREAD, np.float32)
    return NumpyVariation(mean, mean + np.float32(UNKNOWN_SPREAD), scale, whole)


def shrunk(own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread (n, L) at each place of leave-one-out distances (n, q, L), as far as the images tell them."""
    count = own.shape[1]
    mean, overall = own.mean(1), own.mean((1, 2))[:, None]
    variance = own.var(1, ddof=1) if count > 1 else np.broadcast_to(np.square(overall), mean.shape)
    typical = variance.mean(-1, keepdims=True)
    between = np.square(mean - overall).mean(-1, keepdims=True)
    reliable = np.clip(1 - typical / count / np.maximum(between, 1e-12), 0, 1)
    weight = reliable * count / (count + OWN_WEIGHT)
    spread = np.sqrt(weight * variance + (1 - weight) * typical)
    spread = spread + LEAST_SPREAD * spread.mean(-1, keepdims=True)
    placed = overall + reliable * (mean - overall)
    return placed.astype(np.float32), np.maximum(spread, SMALLEST_SPREAD).astype(np.float32)
