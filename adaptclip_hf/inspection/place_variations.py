"""How normal tiles differ from one another at each place, as a profile keeps it: else each start would find it anew."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..modeling.bank_content import FIELDS, VARIATION, variation_fields
from ..processing.image_loading import to_numpy
from ..runtimes.numpy_tokens import bfloat16_bytes

if TYPE_CHECKING:
    import torch

    from ..modeling.normal_variation import NormalVariation

PLACES = "places"  # tensors of this name have all places' values, one place after the other


def packed(variations: "Sequence[NormalVariation]") -> "dict[str, torch.Tensor]":
    """The tensors that a file holds: "places.mean" (T, n, L) and so on, of T places; none without places."""
    if not variations:
        return {}
    import torch

    return {f"{PLACES}.{name}": torch.stack([getattr(each, name).cpu() for each in variations]) for name in FIELDS}


def unpacked(arrays: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """For each place the fields of the variation that [`packed`] wrote; the other arrays are passed over."""
    found = {name: arrays[f"{PLACES}.{name}"] for name in FIELDS if f"{PLACES}.{name}" in arrays}
    yield from (dict(zip(found, each, strict=True)) for each in zip(*found.values(), strict=True))


def digest(variations: "Sequence[NormalVariation]") -> str:
    """SHA-256 of the values, each rounded to bfloat16."""
    found = hashlib.sha256()
    for name in FIELDS:
        found.update(bfloat16_bytes(np.stack([to_numpy(getattr(each, name)) for each in variations])))
    return found.hexdigest()


def is_one(name: str) -> bool:
    """Whether a tensor of this name belongs to them."""
    return name.split(".")[0] == PLACES


def check(tensors: Mapping[str, np.ndarray], tokens: tuple[np.ndarray, ...], tiles: int):
    """Refuses what does not fit the features.

    Args:
        tokens: for each layer patch tokens (R, L, d) of the photos.
        tiles: of each photo.

    Raises:
        ValueError: says that it does not fit.
    """
    found = {name.removeprefix(f"{PLACES}."): tensor for name, tensor in tensors.items() if is_one(name)}
    if not found:
        return
    if set(found) != set(FIELDS) or any(tensor.shape[:1] != (tiles,) for tensor in found.values()):
        raise ValueError(f"{PLACES}: expected {', '.join(FIELDS)} of {tiles} places")
    for place in range(tiles):
        variation_fields({f"{VARIATION}.{name}": tensor[place] for name, tensor in found.items()}, tokens)
