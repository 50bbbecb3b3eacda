"""A CLIP under OpenAI's or open_clip's names as an HF `CLIPModel`."""

import re
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

StateDict = dict[str, torch.Tensor]

# width -> width of one attention head, where it is not the 64 of OpenAI's models
HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104}
# recorded in OpenAI's archives beside the weights
ARCHIVE_SETTINGS = {"input_resolution", "context_length", "vocab_size"}


def clip_from_open_clip(state: StateDict, source: str | Path) -> CLIPModel:
    """A CLIPModel of a state dict with OpenAI's or open_clip's names; sizes are read from the shapes."""
    state = {name: tensor.float() for name, tensor in state.items() if name not in ARCHIVE_SETTINGS}
    try:
        config = open_clip_config(state)
        renamed = dict(rename_open_clip(state))
    except KeyError as error:
        raise ValueError(f"{source} is no CLIP under OpenAI's or open_clip's names: it lacks {error}.") from error
    with torch.device("meta"):  # only shapes: every weight comes from the file
        model = CLIPModel(config)
    expected = model.state_dict()
    for name, tensor in renamed.items():
        if name in expected and tensor.shape != expected[name].shape:
            raise ValueError(
                f"{source}: {name} has shape {tuple(tensor.shape)}; expected {tuple(expected[name].shape)}."
            )
    if missing := sorted(set(expected) - set(renamed)):
        raise ValueError(f"{source} lacks {', '.join(missing[:5])}.")
    if superfluous := sorted(set(renamed) - set(expected)):
        raise ValueError(f"{source} holds tensors that are not in a CLIP with a ViT: {', '.join(superfluous[:5])}.")
    model.load_state_dict(renamed, assign=True)
    for tower in (model.text_model, model.vision_model):
        positions = tower.embeddings.position_embedding.num_embeddings
        tower.embeddings.position_ids = torch.arange(positions)[None]  # not in a state dict
    return model.eval()


def open_clip_config(state: StateDict) -> CLIPConfig:
    """The sizes of a CLIP, read from the shapes of its tensors."""

    def depth(prefix):
        return 1 + max(int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix))

    def tower(prefix, width):
        return {
            "hidden_size": width,
            "intermediate_size": state[f"{prefix}0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": depth(prefix),
            "num_attention_heads": width // HEAD_WIDTHS.get(width, 64),
            "hidden_act": "quick_gelu",
            "projection_dim": projection_dim,
        }

    vision_width, _, patch_size, _ = state["visual.conv1.weight"].shape
    projection_dim = state["visual.proj"].shape[1]
    positions, text_width = state["positional_embedding"].shape
    grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    return CLIPConfig(
        projection_dim=projection_dim,
        vision_config={
            **tower("visual.transformer.resblocks.", vision_width),
            "image_size": grid * patch_size,
            "patch_size": patch_size,
        },
        text_config={
            **tower("transformer.resblocks.", text_width),
            "vocab_size": state["token_embedding.weight"].shape[0],
            "max_position_embeddings": positions,
        },
    )


def rename_open_clip(state: StateDict):
    """Yields each tensor under HF's name; packed attention projections are split, projections are transposed."""
    plain = {
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "logit_scale": "logit_scale",
    }
    projections = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
    prefixes = {
        "visual.ln_pre.": "vision_model.pre_layrnorm.",
        "visual.ln_post.": "vision_model.post_layernorm.",
        "ln_final.": "text_model.final_layer_norm.",
    }
    parts = {
        "attn.out_proj.": "self_attn.out_proj.",
        "ln_1.": "layer_norm1.",
        "ln_2.": "layer_norm2.",
        "mlp.c_fc.": "mlp.fc1.",
        "mlp.c_proj.": "mlp.fc2.",
    }
    for name, tensor in state.items():
        prefix = next((each for each in prefixes if name.startswith(each)), None)
        block = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.((?:\w+\.)+)?(\w+)", name)
        if name in plain:
            yield plain[name], tensor
        elif prefix:
            yield prefixes[prefix] + name[len(prefix) :], tensor
        elif name in projections:
            yield projections[name], tensor.T.contiguous()
        elif block:
            layer = f"{'vision' if block[1] else 'text'}_model.encoder.layers.{block[2]}."
            if block[4].startswith("in_proj_"):
                for projection, part in zip("qkv", tensor.chunk(3), strict=True):
                    yield f"{layer}self_attn.{projection}_proj.{block[4][8:]}", part.contiguous()
            else:
                yield layer + parts.get(block[3], block[3]) + block[4], tensor
        elif name != "attn_mask":
            yield name, tensor
