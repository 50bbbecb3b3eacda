"""Stage 5: the images that the adapters are trained on and selected by, in MVTec AD's layout.

Procedural products, and surfaces from real pictures with defects drawn, pasted and blended into them.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from canvases import GROUP, SIDE, Canvases
from PIL import Image
from tqdm import tqdm

from adaptclip_hf.synthetic import DEFECTS, make_category, write_dataset
from adaptclip_hf.synthetic.categories import save_mask
from adaptclip_hf.synthetic.defects import add_defect, blob

FIRST_SEED = 1_000_000  # larger than the seed of every category that the CLIP learned from
BLENDED = "blended surface"
BLENDED_SHARE = 0.3
HELD_OUT_SHARE = 0.1  # of the canvases of pictures


@dataclass(frozen=True)
class SetPlan:
    """Which categories, and how many images of each.

    Attributes:
        name: the set's folder.
        first: the number of its first category.
        held_out: its surfaces are those that no other set has.
        train, good, bad: normal images to compare with; normal and defective ones to score.
    """

    name: str
    first: int
    held_out: bool
    train: int
    good: int
    bad: int


BASE = SetPlan("base", 0, False, train=3, good=2, bad=2)
HELD_OUT = SetPlan("held-out", 500_000, True, train=4, good=4, bad=4)


def write_set(work: Path, plan: SetPlan, categories: int, canvases: Canvases, size: int) -> Path:
    """The given number of procedural categories, and the same number of real surfaces if there are pictures."""
    folder = work / plan.name
    if (folder / "done").exists():
        return folder
    first, count = GROUP * len(canvases.names), len(canvases.pixels)
    border = count - round(HELD_OUT_SHARE * (count - first))
    choice = (border, count) if plan.held_out else (first, border)
    pictured = categories if count > first else 0
    numbers = range(plan.first, plan.first + categories)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        procedural = pool.map(partial(write_procedural, folder, plan, size), numbers)
        list(tqdm(procedural, f"{plan.name}, procedural", categories))
        surfaces = pool.map(partial(write_surface, folder, plan, size, work, choice), numbers[:pictured])
        list(tqdm(surfaces, f"{plan.name}, pictures", pictured))
    (folder / "done").touch()
    return folder


def write_procedural(folder: Path, plan: SetPlan, size: int, number: int):
    category = {f"category_{number:06d}": make_category(FIRST_SEED + number)}
    write_dataset(folder, category, size=size, train=plan.train, good=plan.good, bad=plan.bad)


def write_surface(folder: Path, plan: SetPlan, size: int, work: Path, choice: tuple[int, int], number: int):
    """One canvas as a product whose position and light vary a little from photo to photo."""
    pixels = np.load(work / "canvases" / "pixels.npy", mmap_mode="r")
    rng = np.random.default_rng([number, 40])
    chosen, other = rng.integers(*choice, 2)
    reach, light, noise = rng.choice([0.15, 0.4, 1.0]), rng.choice([0.02, 0.08]), rng.uniform(0, 0.02)
    folder = folder / f"surface_{number:06d}"
    for index in range(plan.train + plan.good + plan.bad):
        scene = pose(rng, pixels[chosen], size, reach)
        mask, kind = None, "good"
        if index >= plan.train + plan.good:
            scene, mask, kind = spoil(rng, scene, pose(rng, pixels[other], size, 1.0))
        photo = scene * np.exp(rng.normal(0, light)) + rng.normal(0, noise, scene.shape)
        split = "train" if index < plan.train else "test"
        path = folder / split / kind.replace(" ", "_") / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.clip(photo, 0, 1) * 255 + 0.5).astype(np.uint8)).save(path)
        if mask is not None:
            truth = folder / "ground_truth" / path.parent.name / f"{index:03d}_mask.png"
            truth.parent.mkdir(parents=True, exist_ok=True)
            save_mask(mask, truth)


def pose(rng: np.random.Generator, canvas: np.ndarray, size: int, reach: float) -> np.ndarray:
    """The middle of a canvas, moved, turned and enlarged a little: float32 (size, size, 3) in [0, 1]."""
    angle, scale = rng.normal(0, 0.06 * reach), np.exp(rng.normal(0, 0.05 * reach)) * 0.92 * SIDE / size
    shift = rng.normal(0, 0.03 * reach * SIDE, 2)
    cosine, sine, middle = scale * np.cos(angle), scale * np.sin(angle), size / 2
    across = SIDE / 2 + shift[0] - middle * (cosine - sine)
    down = SIDE / 2 + shift[1] - middle * (sine + cosine)
    # reflected at its edges, so that a rotation shows no border
    padded = np.pad(canvas, ((SIDE // 2,) * 2, (SIDE // 2,) * 2, (0, 0)), "reflect")
    matrix = (cosine, -sine, across + SIDE // 2, sine, cosine, down + SIDE // 2)
    picture = Image.fromarray(padded).transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32) / 255


def spoil(rng: np.random.Generator, scene: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """A defect drawn, pasted, or blended from another surface; every second one is faint."""
    everywhere, strength = np.ones(scene.shape[:2], bool), rng.choice([1.0, rng.uniform(0.35, 1)])
    if rng.random() < BLENDED_SHARE:
        weight = blob(rng, everywhere, 0.03, 0.2)[..., None] * np.float32(strength)
        blended = scene + weight * (other - scene)
        mask = np.abs(blended - scene).max(-1) > 0.05
        if mask.mean() > 5e-4:
            return blended, mask, BLENDED
    kind = str(rng.choice(list(DEFECTS)))
    return add_defect(rng, scene, everywhere, kind, strength)
