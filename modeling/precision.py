"""Float32 where half precision would lose accuracy, and weights at aligned addresses."""

import torch
from torch import nn

# bytes; torch's own allocations begin at multiples of this
ALIGNMENT = 64


def full_precision(tensor: torch.Tensor) -> torch.Tensor:
    """float16 and bfloat16 to float32; float32 and float64 as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def align_weights(model: nn.Module):
    """Copies weights that a memory-mapped file left at unaligned addresses.

    On a CPU the last bits of a product depend on the addresses of its operands, and so on the layout of the file.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()
