"""Where half precision would lose what matters, values are computed in float32 at least."""

import torch


def full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 to float32; float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
