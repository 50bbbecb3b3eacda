"""The textual adapter: a learned prompt for each class in place of sentences (paper, equation 4)."""

import torch
from torch import nn
from transformers import CLIPModel

from .configuration_adaptclip import AdaptCLIPConfig
from .text_encoder import encode_text


class TextualAdapter(nn.Module):
    """Learned token embeddings of the two classes, which the frozen text tower encodes."""

    def __init__(self, config: AdaptCLIPConfig):
        super().__init__()
        shape = (config.prompt_length, config.clip_config.text_config.hidden_size)
        self.normal_prompt = nn.Parameter(torch.empty(shape))
        self.anomalous_prompt = nn.Parameter(torch.empty(shape))
        self.config = config

    def forward(self, clip: CLIPModel) -> torch.Tensor:
        """Text embeddings (2, d), normal first, of [start] theta_1..theta_r "." [end]."""
        prompts = torch.stack([self.normal_prompt, self.anomalous_prompt])
        frame = clip.text_model.embeddings.token_embedding.weight[self.config.prompt_token_ids]
        start, end = frame[:1].expand(2, -1, -1), frame[1:].expand(2, -1, -1)
        inputs_embeds = torch.cat([start, prompts, end], dim=1)
        end_positions = torch.full((2,), inputs_embeds.shape[1] - 1, device=prompts.device)
        return encode_text(clip, inputs_embeds, end_positions)
