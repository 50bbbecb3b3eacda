"""Stages 6 and 8: trains the adapters by the method's own recipe, and writes the finished folder."""

import shutil
from pathlib import Path

import torch
from distillation import DUAL_PATH_LAYERS, FEATURE_LAYERS
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.modeling.damage import write_weights_checksums
from adaptclip_hf.training import AdaptCLIPTrainingArguments
from adaptclip_hf.training.checkpoints import last_complete_checkpoint
from adaptclip_hf.training.train import train

IMAGE_SIZE = 336
CARD = Path(__file__).resolve().parents[2] / "hub_cards" / "adaptclip-tiny.md"


def train_adapters(work: Path, base: Path, epochs: int, seed: int) -> Path:
    """Runs the recipe of `adaptclip train` on the base set; continues from its checkpoints."""
    folder = work / f"adapters-{seed}"
    if not (folder / "model.safetensors").exists():
        train(
            str(work / "clip"),
            [f"mvtec:{base}"],
            AdaptCLIPTrainingArguments(str(folder), num_train_epochs=epochs, seed=seed),
            cache_folder=work / "features",
            resume=last_complete_checkpoint(folder) is not None,
            image_size=IMAGE_SIZE,
            feature_layers=FEATURE_LAYERS,
            num_dual_path_layers=DUAL_PATH_LAYERS,
            prompt_query_adapter=False,
            normal_variation=True,
            few_shot_adapters=False,
        )
    return folder


def package(folder: Path, peak_share: float, output: Path) -> None:
    """The finished folder: the CLIP's weights in half precision, the small adapters as they are."""
    model, tokenizer = AdaptCLIPModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    model.config.peak_share = peak_share
    with torch.no_grad():
        for parameter in model.clip.parameters():
            parameter.copy_(parameter.half().float())
    model.set_object_name(model.config.object_name, tokenizer)
    model.save_pretrained(output)
    AdaptCLIPProcessor.for_model(model.config, tokenizer).save_pretrained(output)
    tensors = load_file(output / "model.safetensors")
    halved = {name: tensor.half() if name.startswith("clip.") else tensor for name, tensor in tensors.items()}
    save_file(halved, output / "model.safetensors", metadata={"format": "pt"})
    write_weights_checksums(output)
    shutil.copy(CARD, output / "README.md")
    print(f"{output}: {(output / 'model.safetensors').stat().st_size / 2**20:.1f} MiB")
