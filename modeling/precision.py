"""Float32 where half precision would lose accuracy, and weights at aligned addresses."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

P = ParamSpec("P")
R = TypeVar("R")

# bytes; torch's own allocations begin at multiples of this
ALIGNMENT = 64


def full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 to float32; float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def under_autocast(device: torch.device) -> bool:
    """Whether autocast chooses the dtype of what is computed on a device."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Computes in the operands' own dtypes; nothing where autocast is off, since a graph would hold the context."""
    return torch.autocast(device.type, enabled=False) if under_autocast(device) else nullcontext()


def outside_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """A function that computes with autocast off; its first argument is a tensor, or a sequence of tensors."""

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0] if isinstance(args[0], torch.Tensor) else args[0][0]  # type: ignore[index]
        with without_autocast(first.device):
            return function(*args, **kwargs)

    return computed


def align_weights(model: nn.Module):
    """Copies weights that a memory-mapped file left at unaligned addresses.

    On a CPU the last bits of a product depend on the addresses of its operands, and so on the layout of the file.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if is_traceable_wrapper_subclass(tensor):  # of a quantised weight, which was computed and not mapped
            continue
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()
