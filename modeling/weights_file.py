"""Reads the weights of a safetensors file one by one."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

WEIGHTS_FILE = "model.safetensors"


def read_weights(
    file: str | Path, wanted: Callable[[str], bool], dtype: torch.dtype | None = None
) -> dict[str, torch.Tensor]:
    """Copies of a file's tensors.

    The file is mapped into memory for one tensor at a time, because one mapping for all would stay in memory with the
    copies.

    Args:
        wanted: whether to read a tensor, by its name.
        dtype: of the floating-point tensors; the file's by default.
    """
    with safe_open(file, framework="pt") as opened:
        names = [name for name in opened.keys() if wanted(name)]
    weights = {}
    for name in names:
        with safe_open(file, framework="pt") as opened:
            tensor = opened.get_tensor(name)
            weights[name] = tensor.to(dtype if tensor.is_floating_point() else None, copy=True)
    return weights
