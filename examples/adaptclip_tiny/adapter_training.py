"""Stages 3 and 4: the adapters by the method's own recipe, and the finished folder."""

import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from clip_training import DUAL_PATH_LAYERS, FEATURE_LAYERS
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.modeling.vision_encoder import ImageFeatures
from adaptclip_hf.synthetic import make_category, write_dataset

FIRST_BASE_SEED = 1_000_000  # beyond every category that the CLIP is trained on
BASE_SIZE = 336
CARD = Path(__file__).resolve().parents[2] / "hub_cards" / "adaptclip-tiny.md"


def train_adapters(work: Path, count: int, epochs: int, image_size: int) -> None:
    """The method's own recipe on procedural categories that the CLIP has not seen: three adapters, one normal prompt
    image a query, Adam at 1e-3 with betas (0.5, 0.999), batches of 8."""
    if (work / "adapters" / "model.safetensors").exists():
        return
    torch.manual_seed(1)
    model = AdaptCLIPModel.from_clip_pretrained(
        work / "clip",
        image_size=image_size,
        feature_layers=FEATURE_LAYERS,
        num_dual_path_layers=DUAL_PATH_LAYERS,
        prompt_query_hidden_size=64,
    )
    processor = AdaptCLIPProcessor.for_model(model.config, AutoTokenizer.from_pretrained(work / "clip"))
    base, start = work / "base", time.time()
    if not (base / "done").exists():
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(write_base_category, [base] * count, range(count)))
        (base / "done").touch()
        print(f"adapters: base set rendered in {time.time() - start:.0f} s", flush=True)
    queries = sorted(base.glob("*/test/*/*.png"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    features = encode_once(model, processor, [*queries, *base.glob("*/train/good/*.png")])
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3, betas=(0.5, 0.999))
    checkpoint, first = work / "adapters_checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["epoch"]
    model.train()
    start, running, step = time.time(), {}, 0
    for epoch in range(first, epochs):
        rng = np.random.default_rng([epoch, 1])
        for batch in np.array_split(rng.permutation(len(queries)), len(queries) // 8):
            files = [queries[index] for index in batch]
            prompts = [rng.choice(sorted((file.parents[2] / "train" / "good").iterdir())) for file in files]
            output = model(
                image_features=stack([features[file] for file in files], device),
                prompt_features=stack([features[prompt] for prompt in prompts], device),
                labels=torch.tensor([file.parent.name != "good" for file in files], device=device).long(),
                mask_labels=processor(files, masks=[mask_of(file) for file in files])["mask_labels"].to(device),
            )
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            for name, loss in output.losses.items():
                running[name] = 0.98 * running.get(name, loss.item()) + 0.02 * loss.item()
            step += 1
            if step % 20 == 0:
                shown = ", ".join(f"{name} {value:.3f}" for name, value in running.items())
                print(f"adapters epoch {epoch}, step {step}, {(time.time() - start) / 60:.1f} min: {shown}", flush=True)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
        torch.save(state, checkpoint.with_suffix(".tmp"))
        checkpoint.with_suffix(".tmp").replace(checkpoint)
    model.cpu().eval().save_pretrained(work / "adapters")
    processor.save_pretrained(work / "adapters")


@torch.inference_mode()
def encode_once(model: AdaptCLIPModel, processor: AdaptCLIPProcessor, files: list[Path]) -> dict[Path, ImageFeatures]:
    """The frozen encoder's features of each file in half precision: CLIP runs once an image, not once an epoch."""
    features, start = {}, time.time()
    for first in range(0, len(files), 8):
        part = files[first : first + 8]
        encoded = model.image_features(processor(part)["pixel_values"].to(model.device))
        for index, file in enumerate(part):
            patch_embeds = tuple(layer[index : index + 1].half().cpu() for layer in encoded.patch_embeds)
            features[file] = ImageFeatures(encoded.image_embeds[index : index + 1].half().cpu(), patch_embeds)
    print(f"adapters: {len(files)} images encoded in {time.time() - start:.0f} s", flush=True)
    return features


def stack(features: list[ImageFeatures], device: torch.device) -> ImageFeatures:
    """The features of several images as one batch in float32."""
    layers = zip(*(each.patch_embeds for each in features), strict=True)
    image_embeds = torch.cat([each.image_embeds for each in features]).float().to(device)
    return ImageFeatures(image_embeds, tuple(torch.cat(layer).float().to(device) for layer in layers))


def write_base_category(base: Path, index: int):
    category = make_category(FIRST_BASE_SEED + index)
    write_dataset(base, {f"category_{index:03d}": category}, size=BASE_SIZE, train=2, good=1, bad=2)


def mask_of(file: Path):
    """The mask of a test image in MVTec's layout; an empty one for a good image."""
    truth = file.parents[2] / "ground_truth" / file.parent.name / f"{file.stem}_mask.png"
    return truth if truth.exists() else np.zeros((BASE_SIZE, BASE_SIZE), bool)


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
