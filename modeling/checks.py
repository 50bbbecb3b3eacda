"""Checks of the data and weights that come in; none is part of a graph."""

from pathlib import Path

import torch
from torch import nn

from .loss import UNKNOWN_MASK
from .vision_encoder import ImageFeatures

ADAPTERS = ("visual_adapter", "textual_adapter", "prompt_query_adapter")
LEARNED_TEXT = "learned_text_embeds"
TEXT_EMBEDS = ("static_text_embeds", LEARNED_TEXT)
TEXT_TOWER = (r"^clip\.text_model\.", r"^clip\.text_projection\.")  # patterns of the names of its weights


def require_all_weights(model: nn.Module, info: dict, name: str | Path):
    """Refuses a folder that lacks weights, or holds weights of a part that the model never has.

    Weights of an adapter that is switched off are accepted.

    Raises:
        ValueError: names them.
    """
    # older models are stored without the learned prompts' embeddings, which are then computed when needed
    if missing := sorted(info["missing_keys"] - {LEARNED_TEXT}):
        raise ValueError(
            f"{name} is not a complete AdaptCLIP model: {len(missing)} tensors are missing, such as "
            f"{', '.join(missing[:3])}. Expected a folder written by save_pretrained or `adaptclip convert`."
        )
    off = tuple(f"{adapter}." for adapter in ADAPTERS if getattr(model, adapter) is None)
    off += (LEARNED_TEXT,) if model.textual_adapter is None else ()
    if superfluous := sorted(key for key in info["unexpected_keys"] if not key.startswith(off)):
        raise ValueError(
            f"{name} holds {len(superfluous)} tensors that its config does not describe, such as "
            f"{', '.join(superfluous[:3])}: it is another model than the config says."
        )


def is_encoded(text_embeds: torch.Tensor) -> bool:
    """Whether text embeddings were computed: until then they are zero, in older files NaN."""
    return bool(text_embeds.isfinite().all() and text_embeds.any())


def can_look_at(tensor: torch.Tensor) -> bool:
    """Whether its values can be read without waiting for a device or breaking a graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def finite_images(features: ImageFeatures) -> torch.Tensor:
    """(B,), whether all embeddings of an image are finite."""
    return features.image_embeds.isfinite().all(-1) & features.patch_embeds[-1].isfinite().flatten(1).all(-1)


def check_finite(features: ImageFeatures, finite: torch.Tensor, pixel_values: torch.Tensor | None):
    """Raises a ValueError that says why the embeddings of an image are not finite, where their values can be read.

    Args:
        finite: of [`finite_images`].
    """
    if not can_look_at(finite) or finite.all():
        return
    if pixel_values is None or pixel_values.isfinite().all():
        dtype = features.image_embeds.dtype
        raise ValueError(f"The image encoder overflows in {dtype}: load the model in bfloat16 or float32.")
    raise ValueError("pixel_values hold values that are not finite (NaN or infinity).")


def check_pixel_values(pixel_values: torch.Tensor, size: int):
    """Raises a ValueError that says which shape was expected."""
    if pixel_values.ndim != 4 or tuple(pixel_values.shape[1:]) != (3, size, size):
        raise ValueError(f"Expected pixel_values of shape (B, 3, {size}, {size}), got {tuple(pixel_values.shape)}.")


def check_prompt_pixel_values(pixel_values: torch.Tensor, batch_size: int, size: int):
    """Raises a ValueError that says which shape was expected."""
    if pixel_values.ndim != 5 or pixel_values.shape[0] != batch_size:
        raise ValueError(
            f"Expected prompt_pixel_values of shape ({batch_size}, k, 3, {size}, {size}), got "
            f"{tuple(pixel_values.shape)}. Normal images for the whole batch go through encode_prompts."
        )


def check_labels(labels: torch.Tensor | None, mask_labels: torch.Tensor | None, batch_size: int, size: int):
    """Raises a ValueError that says which shape and which values were expected."""
    if labels is not None and tuple(labels.shape) != (batch_size,):
        raise ValueError(f"Expected labels of shape ({batch_size},), got {tuple(labels.shape)}.")
    if mask_labels is not None and tuple(mask_labels.shape) != (batch_size, size, size):
        raise ValueError(
            f"Expected mask_labels of shape ({batch_size}, {size}, {size}), got {tuple(mask_labels.shape)}."
        )
    for name, values, known in (("labels", labels, (0, 1)), ("mask_labels", mask_labels, (0, 1, UNKNOWN_MASK))):
        if values is not None and can_look_at(values):
            wrong = values[sum(values == each for each in known) == 0]
            if len(wrong):
                raise ValueError(f"Expected {name} of {' or '.join(map(str, known))}, got {wrong[0].item():g}.")


def needs_the_package(name: str) -> ImportError:
    return ImportError(
        f"{name} is part of the package adaptclip-hf, and only the model's own code is here: install the package."
    )
