"""Tells tensors of torch from other things, without importing torch: nobody has one who has not imported it."""

import sys
from typing import Any


def is_tensor(thing: Any) -> bool:
    """Whether something is a tensor of torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.Tensor)
