"""From a released checkpoint and a CLIP to a complete model folder (reference, "The cases")."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import CLIPModel

from ..modeling import AdaptCLIPConfig, AdaptCLIPModel
from ..modeling.pretrained_adaptclip import clip_origin, load_clip
from ..modeling.text_encoder import check_tokenizer, frame_token_ids
from ..processing import AdaptCLIPProcessor
from ..processing.processor_files import load_tokenizer
from ..reporting import first_line
from .open_clip import StateDict, clip_from_open_clip
from .torchscript import is_torchscript, read_torchscript

# the CLIP of the authors' released checkpoints
RELEASED_CLIP = "openai/clip-vit-large-patch14-336"

TEXTUAL_PROMPTS = {"normal_prompt": "ctx_pos", "anomalous_prompt": "ctx_neg"}
BOTTLENECK = {"down.": "fc.0.", "norm.": "fc.1.", "up.": "fc.3."}


def convert(
    checkpoint: str | Path, clip: str | Path, output: str | Path, tokenizer: str | Path | None = None, **config
) -> AdaptCLIPModel:
    """Writes a complete model folder: config, safetensors, processor and tokenizer.

    Args:
        checkpoint: the released program's `adapters.pth`.
        clip: an HF CLIP's folder or Hub id, or a `.pt`/`.safetensors` file with OpenAI's or open_clip's names.
        output: folder to write.
        tokenizer: folder or Hub id; by default the one beside the CLIP.
        config: fields of [`AdaptCLIPConfig`] that the checkpoint does not show, such as `feature_layers`,
            `num_dual_path_layers`, `image_size`, `prompt_query_context`.

    Raises:
        FileNotFoundError: a file that is not there.
        ValueError: a missing, superfluous or wrongly shaped tensor, by its name; a checkpoint of another CLIP.
    """
    adapters = read_checkpoint(Path(checkpoint))
    clip_model = read_clip(clip)
    text_tokenizer = read_tokenizer(tokenizer, clip)
    check_tokenizer(text_tokenizer, clip_model.config, str(text_tokenizer.name_or_path))
    sizes = checkpoint_sizes(adapters, clip_model.config.projection_dim)
    # the released program, which trained the adapters, runs every backbone with quick_gelu
    clip_model.config.vision_config.hidden_act = clip_model.config.text_config.hidden_act = "quick_gelu"
    config = {**clip_origin(clip), "prompt_token_ids": frame_token_ids(text_tokenizer), **sizes, **config}
    config = AdaptCLIPConfig(clip_config=clip_model.config, **config)
    check_frame(adapters["textual_learner"], clip_model, config)
    model = AdaptCLIPModel(config, clip_model)
    load_adapters(model, adapters)
    model.set_object_name(config.object_name, text_tokenizer)
    model.eval().save_pretrained(output)
    AdaptCLIPProcessor.for_model(config, text_tokenizer).save_pretrained(output)
    return model


def read_checkpoint(path: Path) -> dict[str, StateDict]:
    """The three learners' tensors of an `adapters.pth`."""
    adapters = read_tensors(path)
    learners = {"textual_learner", "visual_learner", "pq_learner"}
    if set(adapters) != learners:
        raise ValueError(f"{path} holds {sorted(adapters)}; expected the released checkpoint's {sorted(learners)}.")
    return adapters


def read_tensors(path: Path) -> dict:
    """Opens a `.pt`, `.pth` or `.safetensors` file without running anything that is in it."""
    if not path.is_file():
        raise FileNotFoundError(f"No such file: {path}")
    if path.suffix == ".safetensors":
        return load_file(path)
    if is_torchscript(path):
        return read_torchscript(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be opened safely (weights_only): {first_line(error)}") from error


def read_clip(clip: str | Path) -> CLIPModel:
    """The CLIP in float32, from an HF folder or Hub id, or from a file with OpenAI's or open_clip's names."""
    if Path(clip).suffix in (".pt", ".pth", ".bin", ".safetensors"):
        return clip_from_open_clip(read_tensors(Path(clip)), clip)
    return load_clip(clip, torch.float32)


def read_tokenizer(tokenizer: str | Path | None, clip: str | Path):
    """The tokenizer named, or the one that lies beside the CLIP."""
    beside = Path(clip).parent if Path(clip).is_file() else Path(clip)
    try:
        return load_tokenizer(tokenizer or beside)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"No tokenizer at {tokenizer or beside}: name the folder or Hub id of CLIP's tokenizer with --tokenizer."
        ) from error


def checkpoint_sizes(adapters: dict[str, StateDict], projection_dim: int) -> dict[str, int]:
    """The sizes that a checkpoint shows, as fields of the config."""
    prompt = require(adapters, "textual_learner", "ctx_pos")
    bottleneck = require(adapters, "visual_learner", "local_adater.fc.0.weight")
    head = require(adapters, "pq_learner", "local_adapter.0.0.weight")
    if bottleneck.shape[1] != projection_dim:
        raise ValueError(
            f"visual_learner.local_adater.fc.0.weight reads {bottleneck.shape[1]} features, this CLIP gives "
            f"{projection_dim}: the checkpoint belongs to another CLIP."
        )
    return {
        "prompt_length": prompt.shape[-2],
        "visual_adapter_reduction": projection_dim // bottleneck.shape[0],
        "prompt_query_hidden_size": head.shape[0],
    }


def require(adapters: dict[str, StateDict], learner: str, name: str) -> torch.Tensor:
    if name not in adapters[learner]:
        raise ValueError(f"The checkpoint lacks {learner}.{name}.")
    return adapters[learner][name]


def check_frame(textual: StateDict, clip: CLIPModel, config: AdaptCLIPConfig):
    """The checkpoint holds the embeddings around its learned prompts, which must be this CLIP's."""
    table = clip.text_model.embeddings.token_embedding.weight
    frame = table[torch.tensor(config.prompt_token_ids)]
    for side in ("pos", "neg"):
        for name, expected in ((f"token_prefix_{side}", frame[:1]), (f"token_suffix_{side}", frame[1:])):
            if name not in textual:
                continue
            found = textual[name].flatten(0, -2)[: len(expected)]
            if found.shape != expected.shape or not torch.allclose(found.float(), expected, atol=1e-3):
                raise ValueError(
                    f"textual_learner.{name} is not of this CLIP and tokenizer: name the ones it was trained on."
                )


def load_adapters(model: AdaptCLIPModel, adapters: dict[str, StateDict]):
    """Copies every tensor of the checkpoint into the model.

    Raises:
        ValueError: a tensor is missing, superfluous or of another shape."""
    names = adapter_names(model)
    state = model.state_dict()
    loaded: StateDict = {}
    known = {
        f"textual_learner.{name}_{side}"
        for name in ("token_prefix", "token_suffix", "tokenized_prompts")
        for side in ("pos", "neg")
    }
    for ours, copies in names.items():
        for theirs in copies:
            learner, name = theirs.split(".", 1)
            tensor = require(adapters, learner, name)
            if "textual" in learner:
                tensor = tensor.flatten(0, -3)[0] if tensor.ndim > 2 else tensor
            if tensor.shape != state[ours].shape:
                raise ValueError(f"{theirs} has shape {tuple(tensor.shape)}; expected {tuple(state[ours].shape)}.")
            if ours in loaded and not torch.equal(tensor, loaded[ours]):
                raise ValueError(f"{theirs} differs from {copies[0]}, with which it should be shared.")
            loaded[ours] = tensor
            known.add(theirs)
    present = {f"{learner}.{name}" for learner, tensors in adapters.items() for name in tensors}
    if superfluous := sorted(present - known):
        raise ValueError(
            f"The checkpoint holds {len(superfluous)} tensors that are not in this model: "
            f"{', '.join(superfluous[:5])}. Do feature_layers {model.config.feature_layers} fit it?"
        )
    model.load_state_dict(loaded, strict=False)


def adapter_names(model: AdaptCLIPModel) -> dict[str, list[str]]:
    """Our name of every adapter tensor -> its names in a released checkpoint; a shared head has one for each layer."""
    names = {f"textual_adapter.{ours}": [f"textual_learner.{theirs}"] for ours, theirs in TEXTUAL_PROMPTS.items()}
    layers = range(len(model.config.feature_layers))
    for key in model.state_dict():
        if match := re.fullmatch(r"visual_adapter\.(global|local)_branch\.(down\.|norm\.|up\.)(.+)", key):
            branch = {"global": "global_adapter", "local": "local_adater"}[match[1]]
            names[key] = [f"visual_learner.{branch}.{BOTTLENECK[match[2]]}{match[3]}"]
        elif match := re.fullmatch(r"prompt_query_adapter\.feature_norms\.(.+)", key):
            names[key] = [f"pq_learner.sharebn.{match[1]}"]
        elif match := re.fullmatch(r"prompt_query_adapter\.(segmentation|image)_head\.(.+)", key):
            head = {"segmentation": "local_adapter", "image": "global_adapter"}[match[1]]
            names[key] = [f"pq_learner.{head}.{layer}.{match[2]}" for layer in layers]
    return names
