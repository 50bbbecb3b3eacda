"""Renders many procedural categories, and draws batches of crops from them, for the first CLIP."""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from adaptclip_hf.synthetic import make_category, render_sample

SIZE = 224
PER_CATEGORY = 6  # the first half normal, the second half with defects


def render_category(seed: int) -> tuple[np.ndarray, np.ndarray, str, list[str]]:
    category = make_category(seed)
    samples = [
        render_sample(category, seed * PER_CATEGORY + index, SIZE, defect=index >= PER_CATEGORY // 2)
        for index in range(PER_CATEGORY)
    ]
    images, masks, kinds = zip(*samples, strict=True)
    return np.stack(images), np.stack(masks), category.name, list(kinds)


def render(work: Path, count: int) -> dict:
    """Images (N, 6, S, S, 3) uint8 and masks (N, 6, S, S) bool, memory-mapped, with names and kinds of defect."""
    paths = {name: work / f"{name}.npy" for name in ("images", "masks", "names", "kinds")}
    if not paths["kinds"].exists():
        images = np.lib.format.open_memmap(paths["images"], "w+", np.uint8, (count, PER_CATEGORY, SIZE, SIZE, 3))
        masks = np.lib.format.open_memmap(paths["masks"], "w+", bool, (count, PER_CATEGORY, SIZE, SIZE))
        names, kinds, start = [], [], time.time()
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            for index, (image, mask, name, kind) in enumerate(pool.map(render_category, range(count), chunksize=8)):
                images[index], masks[index] = image, mask
                names.append(name)
                kinds.append(kind)
                if index % 200 == 199:
                    print(f"render {index + 1}/{count} categories, {time.time() - start:.0f} s", flush=True)
        np.save(paths["names"], np.array(names))
        np.save(paths["kinds"], np.array(kinds))
    return {name: np.load(path, mmap_mode="r" if name in ("images", "masks") else None) for name, path in paths.items()}


def draw_batch(data: dict, rng: np.random.Generator, categories: int, side: int) -> dict:
    """For some categories two normal prompts, a normal and a defective query, cropped at one position with jitter."""
    chosen = rng.integers(0, len(data["names"]), categories)
    pixels, masks, kinds = [], [], []
    for index in chosen:
        half = PER_CATEGORY // 2
        picks = [*rng.permutation(half), half + rng.integers(half)]
        drift = rng.choice([0.05, 0.2])
        source = int(min(SIZE, side * np.exp(rng.uniform(-0.45, 0.7)))) if rng.random() < 0.6 else min(SIZE, side)
        left, top = rng.integers(0, SIZE - source + 1, 2)
        if source < SIZE:
            hit = np.argwhere(data["masks"][index, picks[3]])
            row, column = hit[rng.integers(len(hit))]
            top = int(np.clip(row - rng.integers(source), 0, SIZE - source))
            left = int(np.clip(column - rng.integers(source), 0, SIZE - source))
        turns, flip = rng.integers(4), rng.random() < 0.5
        for pick in picks:
            dy, dx = rng.integers(-8, 9, 2) if source < SIZE else (0, 0)
            y, x = int(np.clip(top + dy, 0, SIZE - source)), int(np.clip(left + dx, 0, SIZE - source))
            image = data["images"][index, pick, y : y + source, x : x + source]
            mask = data["masks"][index, pick, y : y + source, x : x + source]
            image, mask = np.rot90(image, turns), np.rot90(mask, turns)
            if flip:
                image, mask = image[:, ::-1], mask[:, ::-1]
            pixel = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
            mask = torch.from_numpy(np.array(mask))[None, None].float()
            if source != side:
                pixel = F.interpolate(pixel, size=(side, side), mode="bilinear", antialias=True)
                mask = F.interpolate(mask, size=(side, side), mode="bilinear", antialias=True)
            gain, offset = np.exp(rng.normal(0, drift)), rng.normal(0, drift / 4)
            pixels.append((pixel * gain + offset).clamp(0, 1))
            masks.append(mask[:, 0])
        kinds.append([data["kinds"][index, pick] for pick in picks])
    return {
        "pixels": torch.cat(pixels),
        "masks": torch.cat(masks),
        "names": [str(data["names"][index]) for index in chosen],
        "kinds": kinds,
    }
