"""The weights of a safetensors file, read one after the other."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

WEIGHTS_FILE = "model.safetensors"


def read_weights(
    file: str | Path, wanted: Callable[[str], bool], dtype: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """Copies of a file's tensors, in memory of their own.

    The file is mapped for one tensor at a time: mapped as a whole, it would be in memory beside the copies.

    Args:
        wanted: whether a tensor is read, by its name.
        dtype: of the tensors of floats.
    """
    with safe_open(file, framework="pt") as opened:
        names = [name for name in opened.keys() if wanted(name)]
    weights = {}
    for name in names:
        with safe_open(file, framework="pt") as opened:
            tensor = opened.get_tensor(name)
            weights[name] = tensor.to(dtype if tensor.is_floating_point() else None, copy=True)
    return weights
