"""Stage 4: what the adapters learn from, in MVTec AD's layout: procedural products, and surfaces out of real pictures
with defects drawn, pasted and blended into them."""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from canvases import GROUP, SIDE, Canvases
from PIL import Image
from tqdm import tqdm

from adaptclip_hf.synthetic import DEFECTS, make_category, write_dataset
from adaptclip_hf.synthetic.categories import save_mask
from adaptclip_hf.synthetic.defects import add_defect, blob

FIRST_BASE_SEED = 1_000_000  # beyond every category that the CLIP is trained on
COUNTS = {"train": 3, "good": 2, "bad": 2}
BLENDED = "blended surface"
BLENDED_SHARE = 0.3


def write_base_set(work: Path, categories: int, canvases: Canvases, size: int) -> Path:
    """So many procedural categories, and as many of real surfaces where there are pictures."""
    base = work / "base"
    if (base / "done").exists():
        return base
    first_picture = GROUP * len(canvases.names)
    pictured = categories if first_picture < len(canvases.pixels) else 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        procedural = pool.map(partial(write_procedural, base, size), range(categories))
        list(tqdm(procedural, "base set, procedural", categories))
        surfaces = pool.map(partial(write_surface, base, size, work, first_picture), range(pictured))
        list(tqdm(surfaces, "base set, pictures", pictured))
    (base / "done").touch()
    return base


def write_procedural(base: Path, size: int, index: int):
    category = make_category(FIRST_BASE_SEED + index)
    write_dataset(base, {f"category_{index:04d}": category}, size=size, **COUNTS)


def write_surface(base: Path, size: int, work: Path, first_picture: int, index: int):
    """One canvas as a product that lies a little differently in every photo, under changing light."""
    pixels = np.load(work / "canvases" / "pixels.npy", mmap_mode="r")
    rng = np.random.default_rng([index, 40])
    chosen, other = rng.integers(first_picture, len(pixels), 2)
    reach, light, noise = rng.choice([0.15, 0.4, 1.0]), rng.choice([0.02, 0.08]), rng.uniform(0, 0.02)
    folder = base / f"surface_{index:04d}"
    for number in range(sum(COUNTS.values())):
        split = "train" if number < COUNTS["train"] else "test"
        scene = pose(rng, pixels[chosen], size, reach)
        mask, kind = None, "good"
        if number >= COUNTS["train"] + COUNTS["good"]:
            scene, mask, kind = spoil(rng, scene, pose(rng, pixels[other], size, 1.0))
        photo = scene * np.exp(rng.normal(0, light)) + rng.normal(0, noise, scene.shape)
        path = folder / split / kind.replace(" ", "_") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.clip(photo, 0, 1) * 255 + 0.5).astype(np.uint8)).save(path)
        if mask is not None:
            truth = folder / "ground_truth" / path.parent.name / f"{number:03d}_mask.png"
            truth.parent.mkdir(parents=True, exist_ok=True)
            save_mask(mask, truth)


def pose(rng: np.random.Generator, canvas: np.ndarray, size: int, reach: float) -> np.ndarray:
    """The middle of a canvas, moved, turned and enlarged a little: float32 (size, size, 3) in [0, 1]."""
    angle, scale = rng.normal(0, 0.06 * reach), np.exp(rng.normal(0, 0.05 * reach)) * 0.92 * SIDE / size
    shift = rng.normal(0, 0.03 * reach * SIDE, 2)
    cosine, sine, middle = scale * np.cos(angle), scale * np.sin(angle), size / 2
    across = SIDE / 2 + shift[0] - middle * (cosine - sine)
    down = SIDE / 2 + shift[1] - middle * (sine + cosine)
    # reflected at its edges, so that no turn shows a border
    padded = np.pad(canvas, ((SIDE // 2,) * 2, (SIDE // 2,) * 2, (0, 0)), "reflect")
    matrix = (cosine, -sine, across + SIDE // 2, sine, cosine, down + SIDE // 2)
    picture = Image.fromarray(padded).transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32) / 255


def spoil(rng: np.random.Generator, scene: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """A defect drawn, pasted, or blended from another surface; every other one is faint."""
    everywhere, strength = np.ones(scene.shape[:2], bool), rng.choice([1.0, rng.uniform(0.35, 1)])
    if rng.random() < BLENDED_SHARE:
        weight = blob(rng, everywhere, 0.03, 0.2)[..., None] * np.float32(strength)
        blended = scene + weight * (other - scene)
        mask = np.abs(blended - scene).max(-1) > 0.05
        if mask.mean() > 5e-4:
            return blended, mask, BLENDED
    kind = str(rng.choice(list(DEFECTS)))
    return add_defect(rng, scene, everywhere, kind, strength)
