"""Layers that a CPU computes faster in bfloat16, in fewer passes over memory."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import QuickGELUActivation

SLOPE = 1.702


class FusedLinear(nn.Linear):
    """A linear layer whose bias is added inside the product; torch's own first copies it to every row."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_compiling():  # which fuses by itself
            return super().forward(inputs)
        return torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, "none", [], "")


class InPlaceQuickGELU(nn.Module):
    """x * sigmoid(1.702 x) with one buffer in place of three."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.silu(inputs * SLOPE, inplace=True).mul_(1 / SLOPE)


def use_fast_layers(model: nn.Module):
    """Replaces layers of the image encoder, if it runs in bfloat16 on a CPU that multiplies bfloat16."""
    if model.dtype != torch.bfloat16 or model.device.type != "cpu" or not has_fused_products():
        return
    for module in model.clip.vision_model.modules():
        if type(module) is nn.Linear:
            module.__class__ = FusedLinear
        for name, child in module.named_children():
            if isinstance(child, QuickGELUActivation):
                setattr(module, name, InPlaceQuickGELU())


def has_fused_products() -> bool:
    """Whether torch has fused products in bfloat16, and this processor runs them (AVX512 or later)."""
    operators = torch.ops.mkldnn
    there = torch.backends.mkldnn.is_available() and hasattr(operators, "_linear_pointwise")
    return there and operators._is_mkldnn_bf16_supported()
