"""How many real good photos are called near copies of others, and how many copies are found.

python benchmarks/near_copies.py --data ../shared/data
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from adaptclip_hf.inspection.near_copies import near_copies, sketch

COPIED = 15  # photos of each category


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets in MVTec's layout")
    args = parser.parse_args()
    print(f"| category | photos | named | {' | '.join(COPIES)} |\n|{'---|' * (len(COPIES) + 3)}")
    for category in sorted({folder.parent.parent for folder in args.data.glob("*/*/*/good")}):
        photos = [Image.open(file).convert("RGB") for file in sorted(category.glob("*/good/*"))]
        if len(photos) < 3:
            continue
        named = len(copies_among(photos))
        picked = np.random.default_rng(0).permutation(len(photos))[:COPIED].tolist()
        others = sorted({*range(40), *picked} & {*range(len(photos))})
        found = []
        for copy in COPIES.values():
            pairs = copies_among([photos[each] for each in others] + [copy(photos[each]) for each in picked]).items()
            expected = {frozenset((others.index(each), len(others) + place)) for place, each in enumerate(picked)}
            found.append(f"{len(expected & {frozenset(pair) for pair in pairs})} of {len(picked)}")
        print(f"| {category.name} | {len(photos)} | {named} | {' | '.join(found)} |", flush=True)


def copies_among(photos: list[Image.Image]) -> dict[int, int]:
    return near_copies(list(map(sketch, photos)), [photo.size[::-1] for photo in photos])


def resized(photo: Image.Image, factor: float) -> Image.Image:
    return photo.resize((max(8, round(photo.width * factor)), max(8, round(photo.height * factor))))


def saved(photo: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


COPIES = {
    "half": lambda photo: resized(photo, 0.5),
    "120 pixels, JPEG 75": lambda photo: saved(resized(photo, 120 / max(photo.size)), 75),
    "JPEG 50": lambda photo: saved(photo, 50),
    "1.5 times": lambda photo: resized(photo, 1.5),
    "20 % darker": lambda photo: ImageEnhance.Brightness(photo).enhance(0.8),
    "1 % cut off": lambda photo: photo.crop(
        tuple(round(side * share) for share in (0.01, 0.99) for side in photo.size)
    ),
}

if __name__ == "__main__":
    main()
