"""The frozen CLIP image encoder with two paths (reference, "Image encoder")."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward
from transformers.utils import ModelOutput

from .encoder_record import EncoderRecord
from .precision import full_precision


@dataclass
class ImageFeatures(ModelOutput):
    """The embeddings that adapters read.

    Args:
        image_embeds (`torch.FloatTensor` of shape `(B, d)`): the image embedding, not normalised.
        patch_embeds (`tuple[torch.FloatTensor]`): for each chosen layer (B, 1 + L, d), class token first, not
            normalised.
        hidden_states, attentions (`tuple[torch.FloatTensor]`, *optional*): where they were asked for, see
            [`AdaptCLIPOutput`].
    """

    image_embeds: torch.FloatTensor
    patch_embeds: tuple[torch.FloatTensor, ...] = None  # type: ignore[assignment]  # a ModelOutput requires one field only
    hidden_states: tuple[torch.FloatTensor | None, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None

    def select(self, rows: list[int]) -> "ImageFeatures":
        """The features of some images of the batch."""
        return ImageFeatures(self.image_embeds[rows], tuple(layer[rows] for layer in self.patch_embeds))


def embed_patches(vision_model: nn.Module, pixel_values: torch.Tensor) -> torch.Tensor:
    """Patch and class embeddings (B, 1 + L, D) with the position table resized bilinearly from its pretrained grid."""
    embeddings = vision_model.embeddings
    patches = embeddings.patch_embedding(pixel_values.to(embeddings.patch_embedding.weight.dtype))
    grid = patches.shape[-2:]
    patches = patches.flatten(2).transpose(1, 2)
    class_token = embeddings.class_embedding.expand(patches.shape[0], 1, -1)
    positions = resize_position_table(embeddings.position_embedding.weight, grid)
    return vision_model.pre_layrnorm(torch.cat([class_token, patches], dim=1) + positions)


def resize_position_table(table: torch.Tensor, grid: torch.Size) -> torch.Tensor:
    """(1 + n*n, D) -> (1 + g*g, D): the patches' positions are interpolated in float32, the class token's is kept."""
    side = round((table.shape[0] - 1) ** 0.5)
    if tuple(grid) == (side, side):
        return table
    patch_table = full_precision(table[1:]).T.reshape(1, -1, side, side)
    patch_table = F.interpolate(patch_table, size=tuple(grid), mode="bilinear", align_corners=False)
    return torch.cat([table[:1], patch_table.flatten(2)[0].T.to(table.dtype)])


def attend(
    attention: nn.Module,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    record: EncoderRecord | None = None,
) -> torch.Tensor:
    """CLIP's attention of projected tokens (B, T, D) by the chosen backend, without the output projection.

    Args:
        record: keeps the weights, which only the eager backend knows.
    """
    wanted = record is not None and record.attentions is not None
    chosen = "eager" if wanted else attention.config._attn_implementation
    attention_interface = ALL_ATTENTION_FUNCTIONS.get_interface(chosen, eager_attention_forward)

    def heads(tokens):
        return tokens.unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)

    output, weights = attention_interface(
        attention, heads(queries), heads(keys), heads(values), None, scaling=attention.scale, dropout=0.0
    )
    if record is not None:
        record.add_attention(weights)
    return output.flatten(2)


def one_path_layer(layer: nn.Module, hidden_states: torch.Tensor, record: EncoderRecord | None = None) -> torch.Tensor:
    """One encoder layer on the ordinary path."""
    if record is None or record.attentions is None:
        return layer(hidden_states, None)
    attention, normed = layer.self_attn, layer.layer_norm1(hidden_states)
    queries, keys, values = attention.q_proj(normed), attention.k_proj(normed), attention.v_proj(normed)
    hidden_states = hidden_states + attention.out_proj(attend(attention, queries, keys, values, record))
    return hidden_states + layer.mlp(layer.layer_norm2(hidden_states))


def dual_path_layer(
    layer: nn.Module,
    hidden_states: torch.Tensor,
    patch_states: torch.Tensor,
    class_token_only: bool,
    record: EncoderRecord | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One encoder layer on both paths.

    The value-value attention is added to the patch path only. `class_token_only` computes the ordinary path for the
    class token only, because nothing else of the last layer is used.
    """
    attention = layer.self_attn
    normed = layer.layer_norm1(hidden_states)
    values = attention.v_proj(normed)
    patch_states = patch_states + attention.out_proj(attend(attention, values, values, values, record))

    keys = attention.k_proj(normed)
    if class_token_only:
        normed, hidden_states = normed[:, :1], hidden_states[:, :1]
    queries = attention.q_proj(normed)
    hidden_states = hidden_states + attention.out_proj(attend(attention, queries, keys, values))
    return hidden_states + layer.mlp(layer.layer_norm2(hidden_states)), patch_states


def checkpointed_dual_path_layer(layer: nn.Module, *arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """[`dual_path_layer`], whose activations are computed again for gradients where the layer's own forward does so."""
    if getattr(layer, "gradient_checkpointing", False) and layer.training and torch.is_grad_enabled():
        return layer._gradient_checkpointing_func(dual_path_layer, layer, *arguments)
    return dual_path_layer(layer, *arguments)


def encode_image(
    clip: CLIPModel,
    pixel_values: torch.Tensor,
    feature_layers: list[int],
    num_dual_path_layers: int,
    record: EncoderRecord | None = None,
) -> ImageFeatures:
    """Runs both paths of the frozen image encoder.

    Args:
        clip: the frozen CLIP.
        pixel_values: (B, 3, S, S), S any multiple of the patch size.
        feature_layers: 1-based layers to keep.
        num_dual_path_layers: how many of the last layers also run the value-value patch path.
        record: keeps hidden states and attentions.

    Returns:
        [`ImageFeatures`]: the image embedding comes without the last layer norm, the patch tokens with it.
    """
    layers = clip.vision_model.encoder.layers
    hidden_states = embed_patches(clip.vision_model, pixel_values)
    patch_states = None
    kept = []
    if record is not None:
        record.add(hidden_states)
    for number, layer in enumerate(layers, start=1):
        if number > len(layers) - num_dual_path_layers:
            if patch_states is None:
                patch_states = hidden_states
            hidden_states, patch_states = checkpointed_dual_path_layer(
                layer, hidden_states, patch_states, number == len(layers), record
            )
        else:
            hidden_states = one_path_layer(layer, hidden_states, record)
        tokens = hidden_states if patch_states is None else patch_states
        if number in feature_layers:
            kept.append(clip.visual_projection(clip.vision_model.post_layernorm(tokens)))
        if record is not None:
            record.add(tokens)
    return ImageFeatures(
        image_embeds=clip.visual_projection(hidden_states[:, 0]),
        patch_embeds=tuple(kept),
        **({} if record is None else record.outputs()),
    )
