"""Where half precision would lose what matters, values are computed in float32 at least."""

import torch
from torch import nn

# bytes; what torch itself allocates begins at multiples of this
ALIGNMENT = 64


def full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 to float32; float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def align_weights(model: nn.Module):
    """Copies weights that a mapped file left at odd addresses.

    The last bits of a product on a CPU depend on where its operands begin, and so on the file that they came from.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()
