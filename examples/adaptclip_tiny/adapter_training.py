"""Stages 3 and 4: the adapters by the method's own recipe, and the finished folder."""

import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from clip_training import DUAL_PATH_LAYERS, FEATURE_LAYERS
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.synthetic import make_category, write_dataset
from adaptclip_hf.training import AdaptCLIPTrainingArguments
from adaptclip_hf.training.checkpoints import last_complete_checkpoint
from adaptclip_hf.training.train import train

FIRST_BASE_SEED = 1_000_000  # beyond every category that the CLIP is trained on
BASE_SIZE = 336
CARD = Path(__file__).resolve().parents[2] / "hub_cards" / "adaptclip-tiny.md"


def train_adapters(work: Path, count: int, epochs: int, image_size: int) -> None:
    """`adaptclip train`'s recipe on procedural categories that the CLIP has not seen; goes on from its checkpoints."""
    folder, base, start = work / "adapters", work / "base", time.time()
    if (folder / "model.safetensors").exists():
        return
    if not (base / "done").exists():
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(write_base_category, [base] * count, range(count)))
        (base / "done").touch()
        print(f"adapters: base set rendered in {time.time() - start:.0f} s", flush=True)
    train(
        str(work / "clip"),
        [f"mvtec:{base}"],
        AdaptCLIPTrainingArguments(str(folder), num_train_epochs=epochs, seed=1),
        cache_folder=work / "features",
        resume=last_complete_checkpoint(folder) is not None,
        image_size=image_size,
        feature_layers=FEATURE_LAYERS,
        num_dual_path_layers=DUAL_PATH_LAYERS,
        prompt_query_hidden_size=64,
    )


def write_base_category(base: Path, index: int):
    category = make_category(FIRST_BASE_SEED + index)
    write_dataset(base, {f"category_{index:03d}": category}, size=BASE_SIZE, train=2, good=1, bad=2)


def package(work: Path, output: Path) -> None:
    """The finished folder: the CLIP's weights in half precision, the small adapters as they are."""
    folder = work / "adapters"
    model, tokenizer = AdaptCLIPModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.clip.parameters():
            parameter.copy_(parameter.half().float())
    model.set_object_name(model.config.object_name, tokenizer)
    model.save_pretrained(output)
    AdaptCLIPProcessor.for_model(model.config, tokenizer).save_pretrained(output)
    tensors = load_file(output / "model.safetensors")
    halved = {name: tensor.half() if name.startswith("clip.") else tensor for name, tensor in tensors.items()}
    save_file(halved, output / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(CARD, output / "README.md")
    print(f"{output}: {(output / 'model.safetensors').stat().st_size / 2**20:.1f} MiB")
