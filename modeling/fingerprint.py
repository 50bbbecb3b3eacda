"""Which weights some parts hold: a digest for what is written to disk, and a quick key of their contents."""

import hashlib

import torch
from torch import nn


@torch.no_grad()
def weights_digest(*parts: nn.Module | torch.Tensor) -> str:
    """SHA-256 of the parts' weights, each rounded to bfloat16: float32 and bfloat16 copies of a model agree."""
    digest = hashlib.sha256()
    for part in parts:
        named = {"": part} if isinstance(part, torch.Tensor) else part.state_dict()
        for name, tensor in sorted(named.items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            rounded = tensor.to(torch.bfloat16).cpu().contiguous().view(torch.int16)
            digest.update(rounded.numpy().data)
    return digest.hexdigest()


@torch.no_grad()
def contents_key(*parts: nn.Module | torch.Tensor, every: int = 1) -> tuple[int, ...]:
    """Changes with what the parts' weights hold, however it was written; reads them once, 14 GB a second on a CPU.

    Tensor versions would not do: a fused optimiser and `tensor.data` write without counting. The parity of all bits
    sees any single change, and the first value of each tensor sees one that is the same everywhere.

    Args:
        every: look at one row of so many alone: enough for weights of another model, or that a step has changed.
    """
    tensors = [
        each
        for part in parts
        for each in ([part] if isinstance(part, torch.Tensor) else (*part.parameters(), *part.buffers()))
    ]
    weights = [each.reshape(-1, *each.shape[1:])[::every] for each in tensors]
    weights = [each if each.device.type in ("cpu", "cuda") else each.cpu() for each in weights]
    parities = torch.stack([torch.hash_tensor(each).view(torch.int64) for each in weights])
    firsts = torch.stack([each.reshape(-1)[0].float() for each in weights]).view(torch.int32)
    return (*parities.tolist(), *firsts.tolist())
