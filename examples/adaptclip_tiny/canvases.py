"""Stage 3: the images to learn from, and the teacher's features of them, computed once.

A canvas is somewhat larger than the crops from it. The teacher's patches have 16 px, and the student sees a crop
with the same number of patches, so the features of every crop at a multiple of 16 are in the cache.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pictures import crop_picture
from teacher import COARSE_SIZE, FINE_SIZE, MIDDLE_SIZE, Teacher
from tqdm import tqdm

from adaptclip_hf.loading import choose_dtype
from adaptclip_hf.synthetic import make_category, render_sample

PATCH, SIDE = 16, 384
GRID = SIDE // PATCH
GROUP = 4  # of a procedural category: two normal prompts, a normal query and a defective one
TEACHER_BATCH = 16


@dataclass
class Canvases:
    """Memory-mapped.

    Attributes:
        pixels: (N, 384, 384, 3) uint8; the first `4 * len(names)` are procedural, four a category.
        patches: (N, 24, 24, 152) float16, the teacher's.
        coarse: (N, 12, 12, 320) float16, the teacher's.
        covered: (4 * len(names), 24, 24) float16, the share of a patch that is defective.
        names, kinds: of each category, and of its defect.
    """

    pixels: np.ndarray
    patches: np.ndarray
    coarse: np.ndarray
    covered: np.ndarray
    names: np.ndarray
    kinds: np.ndarray


def make_canvases(work: Path, categories: int, pictures: list[Path]) -> Canvases:
    """Renders and crops images and computes the teacher's features; results in the work folder are used again."""
    folder = work / "canvases"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "kinds.npy").exists():
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            rendered = tqdm(pool.map(render_group, range(categories), chunksize=4), "rendering", categories)
            images, covered, names, kinds = map(list, zip(*rendered, strict=True))
            crops = pool.map(crop_numbered, enumerate(pictures), chunksize=16)
            pieces = [*images, *(np.stack(each) for each in tqdm(crops, "cropping", len(pictures)) if each)]
        np.save(folder / "pixels.npy", np.concatenate(pieces))
        np.save(folder / "covered.npy", np.concatenate(covered))
        np.save(folder / "names.npy", np.array(names))
        np.save(folder / "kinds.npy", np.array(kinds))
    if not (folder / "coarse.npy").exists():
        ask_teacher(folder)
    return Canvases(
        **{
            name: np.load(folder / f"{name}.npy", mmap_mode="r")
            for name in ("pixels", "patches", "coarse", "covered", "names", "kinds")
        }
    )


def render_group(seed: int) -> tuple[np.ndarray, np.ndarray, str, str]:
    category = make_category(seed)
    samples = [render_sample(category, seed * GROUP + index, SIDE, defect=index == GROUP - 1) for index in range(GROUP)]
    images, masks, kinds = zip(*samples, strict=True)
    covered = np.stack(masks).reshape(GROUP, GRID, PATCH, GRID, PATCH).mean((2, 4)).astype(np.float16)
    return np.stack(images), covered, category.name, kinds[-1]


def crop_numbered(numbered: tuple[int, Path]) -> list[np.ndarray]:
    return crop_picture(numbered[1], numbered[0], SIDE)


@torch.no_grad()
def ask_teacher(folder: Path):
    """Writes the teacher's features of all canvases, in half precision."""
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # bfloat16, where it is fast, changes the features by 0.1 % (1 - cosine) and takes a quarter of the time
    dtype = choose_dtype(device) or torch.float32
    teacher = Teacher().to(device, dtype, memory_format=torch.channels_last)
    create = partial(np.lib.format.open_memmap, mode="w+", dtype=np.float16)
    patches = create(folder / "patches.npy", shape=(len(pixels), GRID, GRID, MIDDLE_SIZE + FINE_SIZE))
    unfinished = folder / "coarse.part.npy"
    coarse = create(unfinished, shape=(len(pixels), GRID // 2, GRID // 2, COARSE_SIZE))
    for start in tqdm(range(0, len(pixels), TEACHER_BATCH), "teacher"):
        # the last batch begins earlier instead of being shorter, because another shape would be compiled again
        start = max(0, min(start, len(pixels) - TEACHER_BATCH))
        stop = start + TEACHER_BATCH
        batch = torch.from_numpy(pixels[start:stop].copy()).to(device).permute(0, 3, 1, 2).to(dtype) / 255
        local, context = teacher(batch)
        patches[start:stop], coarse[start:stop] = local.half().cpu().numpy(), context.half().cpu().numpy()
    unfinished.rename(folder / "coarse.npy")
