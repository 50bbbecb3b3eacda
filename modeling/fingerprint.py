"""Which weights a module holds: a cheap version for caches, and a digest for what is written to disk."""

import hashlib

import torch
from torch import nn


def weights_version(module: nn.Module) -> tuple:
    """Changes when any parameter or buffer of the module is replaced, moved or written to; costs microseconds."""
    return tuple(tensor_version(tensor) for tensor in (*module.parameters(), *module.buffers()))


def tensor_version(tensor: torch.Tensor) -> tuple[int, int]:
    """Where a tensor lies and how often it was written to, which inference tensors do not count."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


@torch.no_grad()
def weights_digest(*modules: nn.Module) -> str:
    """SHA-256 of the modules' weights, each rounded to bfloat16: float32 and bfloat16 copies of a model agree."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            rounded = tensor.to(torch.bfloat16).cpu().contiguous().view(torch.int16)
            digest.update(rounded.numpy().data)
    return digest.hexdigest()
