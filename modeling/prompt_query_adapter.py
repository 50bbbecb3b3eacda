"""The prompt-query adapter: compares a query with normal prompt images (paper, equations 5 to 8)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from .alignment import Pool, cosine_distance, nearest_tokens
from .configuration_adaptclip import AdaptCLIPConfig
from .precision import full_precision


@dataclass
class PromptQueryPrediction:
    """One layer's comparison: alignment distances (B, g, g), probabilities (B, 2, 4g, 4g), image logits (B, 2)."""

    alignment: torch.Tensor
    probabilities: torch.Tensor
    logits: torch.Tensor


def segmentation_head(size: int, hidden_size: int) -> nn.Sequential:
    """(B, d, g, g) -> two-class logits (B, 2, 4g, 4g)."""
    return nn.Sequential(
        nn.Conv2d(size, hidden_size, 3, padding=1, bias=False),
        nn.BatchNorm2d(hidden_size),
        nn.ReLU(),
        nn.ConvTranspose2d(hidden_size, hidden_size, 2, stride=2),
        nn.Conv2d(hidden_size, hidden_size // 2, 3, padding=1, bias=False),
        nn.BatchNorm2d(hidden_size // 2),
        nn.ReLU(),
        nn.ConvTranspose2d(hidden_size // 2, hidden_size // 2, 2, stride=2),
        nn.Conv2d(hidden_size // 2, 2, 1),
    )


def image_head(size: int, hidden_size: int) -> nn.Sequential:
    """(B, d) -> two-class logits (B, 2)."""
    return nn.Sequential(
        nn.Linear(size, hidden_size, bias=False),
        nn.BatchNorm1d(hidden_size),
        nn.ReLU(),
        nn.Linear(hidden_size, hidden_size // 2, bias=False),
        nn.BatchNorm1d(hidden_size // 2),
        nn.ReLU(),
        nn.Linear(hidden_size // 2, 2, bias=False),
    )


class PromptQueryAdapter(nn.Module):
    """Compares every chosen layer with the normal images; all layers share a segmentation head and an image head."""

    def __init__(self, config: AdaptCLIPConfig):
        super().__init__()
        size, hidden_size = config.clip_config.projection_dim, config.prompt_query_hidden_size
        self.config = config
        self.feature_norms = nn.ModuleList(nn.BatchNorm2d(size) for _ in config.feature_layers)
        self.segmentation_head = segmentation_head(size, hidden_size)
        self.image_head = image_head(size, hidden_size)

    def forward(self, query_tokens: Sequence[torch.Tensor], pools: Sequence[Pool]) -> list[PromptQueryPrediction]:
        """Compares unit patch tokens without their class token, layer by layer.

        Args:
            query_tokens: for each layer (B, L, d).
            pools: for each layer the normal tokens.
        """
        return [
            self.compare(norm, query, pool)
            for norm, query, pool in zip(self.feature_norms, query_tokens, pools, strict=True)
        ]

    def compare(self, norm: nn.Module, query: torch.Tensor, pool: Pool) -> PromptQueryPrediction:
        grid = self.config.grid_size
        aligned = nearest_tokens(query, pool)
        residual = (query - aligned).abs()
        joint = query + residual if self.config.prompt_query_context else residual
        joint = norm(joint.transpose(1, 2).unflatten(2, (grid, grid)))
        return PromptQueryPrediction(
            alignment=cosine_distance(query, aligned).unflatten(1, (grid, grid)),
            probabilities=full_precision(self.segmentation_head(joint)).softmax(1),
            logits=full_precision(self.image_head(self.pool(joint))),
        )

    def pool(self, joint: torch.Tensor) -> torch.Tensor:
        """Mean and mean of the `pooling_top_k` largest values of each channel, averaged: (B, d, g, g) -> (B, d)."""
        values = joint.flatten(2)
        return (values.mean(-1) + values.topk(self.config.pooling_top_k, dim=-1, sorted=False).values.mean(-1)) / 2


def unit_patch_tokens(patch_embeds: torch.Tensor) -> torch.Tensor:
    """(B, 1 + L, d) -> L2-normalised (B, L, d), class token dropped."""
    return F.normalize(full_precision(patch_embeds[:, 1:]), dim=-1).to(patch_embeds.dtype)
