"""The visual adapter: residual bottlenecks on image and patch embeddings (paper, equation 3)."""

import torch
from torch import nn

from .configuration_adaptclip import AdaptCLIPConfig


class ResidualBottleneck(nn.Module):
    """x + up(relu(norm(down(x)))) on vectors (N, d)."""

    def __init__(self, size: int, reduction: int):
        super().__init__()
        self.down = nn.Linear(size, size // reduction, bias=False)
        self.norm = nn.BatchNorm1d(size // reduction)
        self.up = nn.Linear(size // reduction, size, bias=False)

    def forward(self, embeds: torch.Tensor) -> torch.Tensor:
        return embeds + self.up(torch.relu(self.norm(self.down(embeds))))


class VisualAdapter(nn.Module):
    """Adapts the image embedding (global) and the tokens of the last chosen layer (local) to the text embeddings."""

    def __init__(self, config: AdaptCLIPConfig):
        super().__init__()
        size, reduction = config.clip_config.projection_dim, config.visual_adapter_reduction
        self.global_branch = ResidualBottleneck(size, reduction)
        self.local_branch = ResidualBottleneck(size, reduction)

    def forward(self, image_embeds: torch.Tensor, patch_embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, d) and (B, 1 + L, d) to the same shapes; the local batch norm includes the class token."""
        tokens = self.local_branch(patch_embeds.flatten(0, 1))
        return self.global_branch(image_embeds), tokens.view_as(patch_embeds)
