"""Identifies weights: by a digest that is written to disk, and by a quick key of those in memory."""

import hashlib
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

Part: TypeAlias = nn.Module | torch.Tensor | dict[str, torch.Tensor]


@torch.no_grad()
def weights_digest(*parts: Part) -> str:
    """SHA-256 of the parts' weights, each rounded to bfloat16: float32 and bfloat16 copies of a model agree."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, nn.Module):
            part = part.state_dict(keep_vars=True)  # quantised weights cannot be detached in inference mode
        named = {"": part} if isinstance(part, torch.Tensor) else part
        for name, tensor in sorted(named.items()):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            tensor = tensor.dequantize() if is_traceable_wrapper_subclass(tensor) else tensor
            rounded = tensor.to(torch.bfloat16).cpu().contiguous().view(torch.int16)
            digest.update(rounded.numpy().data)
    return digest.hexdigest()


@torch.no_grad()
def contents_key(*parts: Part, every: int = 1) -> tuple[int, ...]:
    """Changes whenever the parts' weights change, whatever wrote them; reads them once, 14 GB a second on a CPU.

    Tensor versions would not do: a fused optimiser and `tensor.data` write without counting. The parity of all bits
    changes with any single value, and the first value of each tensor with a change that is the same everywhere.

    Args:
        every: read only one row in `every`. It is enough to see another model's weights, or an optimiser's step.
    """
    tensors = [stored for part in parts for each in tensors_of(part) for stored in stored_tensors(each)]
    tensors = [each.view(torch.int8) if each.itemsize == 1 else each for each in tensors]  # torch hashes no float8
    weights = [each.reshape(-1, *each.shape[1:])[::every] for each in tensors]
    weights = [each if each.device.type in ("cpu", "cuda") else each.cpu() for each in weights]
    parities = torch.stack([torch.hash_tensor(each).view(torch.int64) for each in weights])
    firsts = torch.stack([each.reshape(-1)[0].float() for each in weights]).view(torch.int32)
    return (*parities.tolist(), *firsts.tolist())


def versions_key(*parts: Part) -> tuple[tuple[int, int], ...] | None:
    """Changes when frozen weights are replaced or written, without a look at their values, for which a GPU would wait.

    It tells less than [`contents_key`]: a write to `tensor.data` is not counted. `None` where torch counts nothing:
    weights that are trained, which a fused optimiser writes, and those made in inference mode.
    """
    tensors = [stored for part in parts for each in tensors_of(part) for stored in stored_tensors(each)]
    if any(each.requires_grad or each.is_inference() for each in tensors):
        return None
    return tuple((each.data_ptr(), each._version) for each in tensors)


def tensors_of(part: Part) -> list[torch.Tensor]:
    if isinstance(part, torch.Tensor):
        return [part]
    return list(part.values()) if isinstance(part, dict) else [*part.parameters(), *part.buffers()]


def stored_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """A tensor itself; of a quantised one that is made of others, those."""
    if not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    return [stored for name in tensor.__tensor_flatten__()[0] for stored in stored_tensors(getattr(tensor, name))]


class ContentMemo:
    """Values that are computed from weights or other contents, each kept with a key such as [`contents_key`].

    A value whose key no longer matches is computed again. So the memo saves time only: no call can change what another
    call answers.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[Hashable, Any]] = {}

    def value(self, name: Hashable, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value that is kept for this key; `make()` where there is none, kept from then on."""
        kept = self._kept.get(name)
        return kept[1] if kept is not None and kept[0] == key else self.keep(name, key, make())

    def keep(self, name: Hashable, key: Hashable, value: Any) -> Any:
        """Keeps a value that was computed elsewhere from contents of this key, and returns it."""
        self._kept[name] = (key, value)
        return value
