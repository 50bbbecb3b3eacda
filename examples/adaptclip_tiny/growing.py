"""Stage 4b: the small CLIP grows to twice its width and goes on where it was.

Every number of the hidden state is there twice. The wider tower computes what the smaller one did, to rounding;
opposite random numbers in the two halves of its matrices, which cancel out, make that the halves learn different
things.
"""

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

NOISE = 0.5  # of the numbers of a matrix
SEED = 11


@torch.no_grad()
def grow(small: CLIPModel) -> CLIPModel:
    """A CLIP whose image tower is twice as wide: same depth, heads and width of the layers' inner part."""
    torch.manual_seed(SEED)
    config = CLIPConfig(**small.config.to_dict())
    config.vision_config.hidden_size *= 2
    clip = CLIPModel._from_config(config, attn_implementation=small.config._attn_implementation)
    clip.text_model.load_state_dict(small.text_model.state_dict())
    clip.text_projection.load_state_dict(small.text_projection.state_dict())
    clip.logit_scale.copy_(small.logit_scale)
    old, new = small.vision_model, clip.vision_model
    for name in ("class_embedding", "patch_embedding.weight", "position_embedding.weight"):
        source, target = (tower.embeddings.get_parameter(name) for tower in (old, new))
        target.copy_(torch.cat([source, source], 1 if "position" in name else 0))
    for source, target in ((old.pre_layrnorm, new.pre_layrnorm), (old.post_layernorm, new.post_layernorm)):
        widen_norm(source, target)
    heads = config.vision_config.num_attention_heads
    for source, target in zip(old.encoder.layers, new.encoder.layers, strict=True):
        widen_norm(source.layer_norm1, target.layer_norm1)
        widen_norm(source.layer_norm2, target.layer_norm2)
        # a product of doubled heads is twice as large, and its scale 1 / sqrt(2 d): both sides give up 2 ** -0.25, also
        # where values are compared with values
        share = 2**-0.25
        for name in ("q_proj", "k_proj", "v_proj"):
            widen(getattr(source.self_attn, name), getattr(target.self_attn, name), heads, 1, rows=share)
        widen(source.self_attn.out_proj, target.self_attn.out_proj, 1, heads, columns=1 / share)
        widen(source.mlp.fc1, target.mlp.fc1, 0, 1)
        widen(source.mlp.fc2, target.mlp.fc2, 1, 0)
    widen(small.visual_projection, clip.visual_projection, 0, 1)
    return clip


def widen_norm(source: nn.LayerNorm, target: nn.LayerNorm):
    target.weight.copy_(torch.cat([source.weight, source.weight]))
    target.bias.copy_(torch.cat([source.bias, source.bias]))


def widen(source: nn.Linear, target: nn.Linear, outputs: int, inputs: int, rows: float = 1, columns: float = 1):
    """Doubles outputs and inputs, in so many groups that each stay together; 0 leaves them single.

    Args:
        rows, columns: what doubled outputs and inputs are multiplied with.
    """
    weight, bias = source.weight * columns * rows, source.bias
    if outputs:
        weight = doubled(weight, outputs, 0)
        bias = None if bias is None else doubled(bias * rows, outputs, 0)
    if inputs:
        half = weight / 2
        noise = NOISE * half.std() * torch.randn_like(half)
        parts = zip((half + noise).chunk(inputs, 1), (half - noise).chunk(inputs, 1), strict=True)
        weight = torch.cat([part for pair in parts for part in pair], 1)
    target.weight.copy_(weight)
    if bias is not None:
        target.bias.copy_(bias)


def doubled(tensor: torch.Tensor, groups: int, dim: int) -> torch.Tensor:
    """Each group twice, one behind the other."""
    return torch.cat([part for group in tensor.chunk(groups, dim) for part in (group, group)], dim)
