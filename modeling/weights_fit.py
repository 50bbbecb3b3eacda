"""Holds a configuration against the sizes of the weights beside it, before anything is built of it."""

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import CLIPConfig

Shapes = dict[str, tuple[int, ...]]

VISION, TEXT = "clip.vision_model.", "clip.text_model."
# field of the config: the weight and the axis that have its size
SIZES = {
    "clip_config.projection_dim": ("clip.visual_projection.weight", 0),
    "clip_config.vision_config.hidden_size": (f"{VISION}embeddings.class_embedding", 0),
    "clip_config.vision_config.intermediate_size": (f"{VISION}encoder.layers.0.mlp.fc1.weight", 0),
    "clip_config.vision_config.patch_size": (f"{VISION}embeddings.patch_embedding.weight", -1),
    "clip_config.text_config.hidden_size": (f"{TEXT}final_layer_norm.weight", 0),
    "clip_config.text_config.intermediate_size": (f"{TEXT}encoder.layers.0.mlp.fc1.weight", 0),
    "clip_config.text_config.vocab_size": (f"{TEXT}embeddings.token_embedding.weight", 0),
    "clip_config.text_config.max_position_embeddings": (f"{TEXT}embeddings.position_embedding.weight", 0),
    "prompt_length": ("textual_adapter.normal_prompt", 0),
    "prompt_query_hidden_size": ("prompt_query_adapter.image_head.0.weight", 0),
}


def require_clip_fit(config: "CLIPConfig", shapes: Shapes, where: str):
    """[`require_fit`] of a plain CLIP, by the names of its own weights."""
    parts = SimpleNamespace(clip_config=config, adapter_variants=None)
    require_fit(parts, {f"clip.{name}": shape for name, shape in shapes.items()}, where)


def require_fit(config: Any, shapes: Shapes, where: str):
    """Refuses sizes that the weights do not have.

    Args:
        config: an `AdaptCLIPConfig`.
        shapes: of the weights, by their names; what is not there is not compared.
        where: the file of the config.

    Raises:
        ValueError: names the field, its value and that of the weights.
    """
    for field, (weight, axis) in SIZES.items():
        variant = weight.partition(".")[0] in (config.adapter_variants or {})  # whose weights are its own
        if shapes.get(weight) and not variant:
            require_equal(where, field, value_of(config, field), shapes[weight][axis])
    for tower, prefix in (("vision_config", VISION), ("text_config", TEXT)):
        if layers := layers_of(shapes, prefix):
            field = f"clip_config.{tower}.num_hidden_layers"
            require_equal(where, field, value_of(config, field), layers)
    if positions := shapes.get(f"{VISION}embeddings.position_embedding.weight"):
        vision = config.clip_config.vision_config
        field = "clip_config.vision_config.image_size"
        require_equal(where, field, vision.image_size, round((positions[0] - 1) ** 0.5) * vision.patch_size)
    bottleneck = shapes.get("visual_adapter.local_branch.down.weight")
    if bottleneck and "visual_adapter" not in (config.adapter_variants or {}):
        field = "visual_adapter_reduction"
        require_equal(where, field, value_of(config, field), config.clip_config.projection_dim // bottleneck[0])


def value_of(config, field: str):
    for name in field.split("."):
        config = getattr(config, name)
    return config


def layers_of(shapes: Shapes, prefix: str) -> int:
    """The number of layers of a tower; 0 where its weights are elsewhere."""
    numbers = [re.match(rf"{re.escape(prefix)}encoder\.layers\.(\d+)\.", name) for name in shapes]
    return max((1 + int(found[1]) for found in numbers if found), default=0)


def require_equal(where: str, field: str, value: int, expected: int):
    if value != expected:
        raise ValueError(f"{where}: {field} is {value}, and the weights beside it have {expected}.")
