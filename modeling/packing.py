"""How features are stored in a file, in fewer bytes if asked."""

import torch

from .bank_content import SCALE, STORAGES


def pack(name: str, features: torch.Tensor, storage: str | None) -> dict[str, torch.Tensor]:
    """The tensors that store features (..., d) in a file, by their names.

    Args:
        storage: "float32", "float16", "int8" (each vector with its own float32 scale), or `None` for the features' own
            dtype.

    Raises:
        ValueError: an unknown storage.
    """
    features = features.contiguous()
    if storage is None:
        return {name: features}
    if storage not in STORAGES:
        raise ValueError(f"There is no storage {storage!r}; there are {', '.join(STORAGES)}.")
    if storage != "int8":
        return {name: features.to(getattr(torch, storage))}
    features = features.float()
    scale = features.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 127
    return {name: (features / scale).round().to(torch.int8), f"{name}{SCALE}": scale}


def unpack(name: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The features that [`pack`] stored; those of int8 come back as float32.

    Raises:
        KeyError: the tensors do not hold them.
    """
    features = tensors[name]
    return features.float() * tensors[f"{name}{SCALE}"] if features.dtype == torch.int8 else features
