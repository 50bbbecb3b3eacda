"""What the JSON of a configuration may choose: known fields, sizes within bounds, nothing that names code."""

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

# what torch itself computes: other names are code on the Hub, or fetched from there where they are not installed
ATTENTIONS = (None, "eager", "sdpa", "flex_attention")
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")
DTYPES = (None, "float32", "float16", "bfloat16", "float64")
# where the code lies that comes with a model; transformers runs it only with trust_remote_code
CODE = ("auto_map", "custom_pipelines")
# for labels, names and outputs that no AdaptCLIP has
UNUSED = ("id2label", "label2id", "problem_type", "output_hidden_states", "output_attentions", "return_dict")
CLIP_PARTS = {
    "clip_config": CLIPConfig,
    "text_config": CLIPTextConfig,
    "text_config_dict": CLIPTextConfig,
    "vision_config": CLIPVisionConfig,
    "vision_config_dict": CLIPVisionConfig,
}
# the largest sizes of a tower: far above those of any CLIP, and far below what could not be looked at
LARGEST = {
    "hidden_size": 2**15,
    "intermediate_size": 2**17,
    "projection_dim": 2**15,
    "num_hidden_layers": 2**8,
    "num_attention_heads": 2**10,
    "num_channels": 3,
    "image_size": 2**12,
    "patch_size": 2**10,
    "vocab_size": 2**22,
    "max_position_embeddings": 2**14,
}


def chosen_fields(content: Any, config_class: type, where: str) -> dict[str, Any]:
    """The fields of a configuration that a file may choose; what is not known here is left out.

    Args:
        content: of the file, or a part of it.
        where: the file and the part, for errors.

    Raises:
        ValueError: the content is no configuration, a number is not finite, or a field chooses what is not in the list.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{where} must hold names and values, not a {type(content).__name__}.")
    known = {field.name for field in fields(config_class)} - {*UNUSED}
    chosen = {name: value for name, value in content.items() if name in known or name in CODE}
    for name, value in chosen.items():
        if name not in CLIP_PARTS and not all(map(math.isfinite, floats_in(value))):
            raise ValueError(f"{where}: {name} holds a number that is not finite.")
    for name in ("attn_implementation", "_attn_implementation"):
        choice = content.get(name)
        if choice not in ATTENTIONS:
            raise ValueError(
                f"{where}: {name} is {choice!r}; a file may choose {', '.join(filter(None, ATTENTIONS))}. Remove the "
                "field, and give another one to from_pretrained as attn_implementation."
            )
        chosen |= {"attn_implementation": choice} if choice else {}
    dtype = content.get("dtype", content.get("torch_dtype"))
    if dtype not in DTYPES:
        raise ValueError(f"{where}: dtype is {dtype!r}; expected {', '.join(filter(None, DTYPES))}.")
    return chosen | ({"dtype": dtype} if dtype else {})


def chosen_clip(content: Any, where: str) -> dict[str, Any]:
    """[`chosen_fields`] of a CLIP's configuration and of its towers."""
    chosen = chosen_fields(content, CLIPConfig, where)
    check_sizes(chosen, where)
    if not isinstance(chosen.get("logit_scale_init_value"), float):
        chosen.pop("logit_scale_init_value", None)  # the weights have a value
    for name, part in CLIP_PARTS.items():
        if content.get(name) is not None:
            chosen[name] = chosen_fields(content[name], part, f"{where}: {name}")
            check_sizes(chosen[name], f"{where}: {name}")
    return chosen


def floats_in(value: Any) -> Iterator[float]:
    """All floats in a JSON value."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from floats_in(each)


def check_sizes(tower: dict[str, Any], where: str):
    """Refuses sizes that no tower has."""
    for name, largest in LARGEST.items():
        size = tower.get(name, 1)
        if isinstance(size, list | tuple) and name in ("patch_size", "image_size"):
            raise ValueError(f"{where}: {name} is {size}: a CLIP must have square patches and a square input.")
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= largest:
            raise ValueError(f"{where}: {name} must be a whole number in 1..{largest}, got {size!r}.")
    if (choice := tower.get("hidden_act", ACTIVATIONS[0])) not in ACTIVATIONS:
        raise ValueError(f"{where}: hidden_act is {choice!r}; expected {', '.join(ACTIVATIONS)}.")


def check_clip(config: CLIPConfig):
    """Refuses sizes that no CLIP has, before anything is built of them.

    Raises:
        ValueError: names the field.
    """
    vision = config.vision_config
    parts = (("clip_config", config), ("text_config", config.text_config), ("vision_config", vision))
    for part, tower in parts:
        check_sizes(vars(tower), part)
    if vision.num_channels != 3:
        raise ValueError(f"vision_config.num_channels must be 3, of RGB images, got {vision.num_channels}.")
    if vision.patch_size > vision.image_size:
        raise ValueError(f"vision_config.patch_size {vision.patch_size} is larger than its image_size.")
