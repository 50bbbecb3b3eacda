"""A procedural data set on disk, in MVTec AD's layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from .categories import Category, make_category, save_mask


def render_sample(category: Category, seed: int, size: int, defect: bool | str = False):
    """One image: uint8 (S, S, 3), its mask (S, S) bool, and "good" or the kind of defect.

    Args:
        seed: of the instance; the same seed gives the same image.
        defect: any (True), a name of `DEFECTS`, or none.
    """
    rng = np.random.default_rng(seed)
    if not defect:
        return category.normal(rng, size), np.zeros((size, size), bool), "good"
    return category.anomalous(rng, size, defect if isinstance(defect, str) else None)


def write_dataset(
    folder: str | Path,
    categories: dict[str, Category] | int,
    size: int = 336,
    train: int = 8,
    good: int = 4,
    bad: int = 8,
) -> Path:
    """Writes `<category>/train/good`, `test/<good or kind>` and `ground_truth/<kind>`, PNG files, seeded.

    Args:
        folder: where to write; made if missing.
        categories: by folder name, or how many to draw.
        size: side of the images in pixels.
        train, good, bad: images of each category: normal ones to train on, normal and defective ones to test.
    """
    if isinstance(categories, int):
        categories = {f"category_{seed:03d}": make_category(seed) for seed in range(categories)}
    for name, category in categories.items():
        for index in range(train + good + bad):
            image, mask, kind = render_sample(category, index, size, defect=index >= train + good)
            kind = kind.replace(" ", "_")
            split = "train" if index < train else "test"
            target = Path(folder) / name / split / kind / f"{index:03d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(target)
            if kind != "good":
                truth = Path(folder) / name / "ground_truth" / kind / f"{index:03d}_mask.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                save_mask(mask, truth)
    return Path(folder)
