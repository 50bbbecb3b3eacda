"""How normal tiles differ from one another at each place, as a profile keeps it: else each start would find it anew."""

import hashlib
from collections.abc import Sequence

import torch

from ..modeling.normal_variation import FIELDS, NormalVariation
from ..modeling.prompt_bank import VARIATION, read_variation

PLACES = "places"  # tensors of this name have all places' values, one place after the other


def packed(variations: Sequence[NormalVariation]) -> dict[str, torch.Tensor]:
    """The tensors that a file holds: "places.mean" (T, n, L) and so on, of T places; none without places."""
    if not variations:
        return {}
    return {f"{PLACES}.{name}": torch.stack([getattr(each, name).cpu() for each in variations]) for name in FIELDS}


def unpacked(tensors: dict[str, torch.Tensor]) -> tuple[NormalVariation, ...]:
    """The variations that [`packed`] wrote; the other tensors are passed over."""
    found = {name: tensors[f"{PLACES}.{name}"] for name in FIELDS if f"{PLACES}.{name}" in tensors}
    return tuple(NormalVariation(**dict(zip(found, each, strict=True))) for each in zip(*found.values(), strict=True))


def digest(variations: Sequence[NormalVariation]) -> str:
    """SHA-256 of the values, each rounded to bfloat16."""
    found = hashlib.sha256()
    for tensor in packed(variations).values():
        found.update(tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().data)
    return found.hexdigest()


def is_one(name: str) -> bool:
    """Whether a tensor of this name belongs to them."""
    return name.split(".")[0] == PLACES


def check(tensors: dict[str, torch.Tensor], tokens: tuple[torch.Tensor, ...], tiles: int):
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
        read_variation({f"{VARIATION}.{name}": tensor[place] for name, tensor in found.items()}, tokens)
