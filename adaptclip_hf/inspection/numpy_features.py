"""The features of a profile's photos as arrays of NumPy: enough to score photos against them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..engine.tiles import View
from ..modeling.bank_content import ADDED, ADDED_OF, SCALE, is_added, names_of_layers
from ..runtimes.numpy_bank import Layers, NumpyBank, read_added
from ..runtimes.numpy_tokens import mean_tokens, unit_patch_tokens, unpack
from .photos import ProfilePhoto, bank_preprocessing


@dataclass(frozen=True)
class NumpyAdded:
    """As [`AddedTokens`]: what turned copies of tiles add to a bank.

    Attributes:
        tensors: as they lie in a file; empty without copies.
    """

    tensors: Mapping[str, np.ndarray]

    def of_rows(self, rows: Sequence[int], features: Layers) -> tuple[Layers | None, Layers | None]:
        """Those of some tiles, in ascending order, which become the first ones: for each layer unit tokens (M, d) in
        the dtype of the features, and the tiles (M,) that they come from."""
        kept, chosen = np.asarray(list(rows)), {}
        for index in range(len(names_of_layers(ADDED_OF, self.tensors))):
            owners = self.tensors[f"{ADDED_OF}.{index}"]
            stay = np.isin(owners, kept)
            chosen[f"{ADDED_OF}.{index}"] = np.searchsorted(kept, owners[stay])
            for name in (f"{ADDED}.{index}", f"{ADDED}.{index}{SCALE}"):
                if name in self.tensors:
                    chosen[name] = self.tensors[name][stay]
        added, added_of = read_added(chosen, features)
        if added is None:
            return None, None
        return tuple(layer.astype(like.dtype) for layer, like in zip(added, features, strict=True)), added_of


@dataclass(frozen=True)
class NumpyFeatures:
    """As [`PhotoFeatures`].

    Attributes:
        photos: in the order of their features.
        tensors: as they lie in a file: "layer.0", ... (R, 1 + L, d), packed.
        added: tokens of the photos' turned copies.
    """

    photos: tuple[ProfilePhoto, ...]
    tensors: Mapping[str, np.ndarray]
    added: NumpyAdded

    @classmethod
    def of(cls, photos: tuple[ProfilePhoto, ...], arrays: Mapping[str, np.ndarray]) -> "NumpyFeatures":
        """Of all arrays of a file, turned copies among them."""
        added = {name: each for name, each in arrays.items() if is_added(name)}
        return cls(photos, {name: each for name, each in arrays.items() if name not in added}, NumpyAdded(added))

    def bank(self, made_by: dict, view: View, rows: Sequence[int]) -> NumpyBank:
        """See [`PhotoFeatures.bank`]."""
        layers = self._unit_tokens(list(rows))
        added, added_of = self.added.of_rows(rows, layers)
        preprocessing = bank_preprocessing(made_by, view, self.photos)
        return NumpyBank(layers, made_by["fingerprint"], preprocessing, added=added, added_of=added_of)

    def wholes(self, photos: Iterable[ProfilePhoto]) -> np.ndarray:
        """See [`PhotoFeatures.wholes`]."""
        return np.stack([mean_tokens(self._unit_tokens(slice(*photo.rows))).mean(0) for photo in photos])

    def _unit_tokens(self, rows: Sequence[int] | slice) -> Layers:
        """For each layer the unit patch tokens of some tiles."""
        part = {name: array[rows] for name, array in self.tensors.items() if name.startswith("layer.")}
        return tuple(unit_patch_tokens(unpack(name, part, SCALE)) for name in names_of_layers("layer", part))
