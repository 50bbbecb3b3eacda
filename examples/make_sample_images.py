"""Renders the sample images beside this file: three products, each with normal images, test images and masks.

    python examples/make_sample_images.py

They are procedural and seeded, and no stage of adaptclip-tiny's training has seen their categories. The images in the
repository were rendered before categories had their own traits; a new run gives other images.
"""

from pathlib import Path

from PIL import Image

from adaptclip_hf.synthetic import make_category, render_sample

SIZE, FOLDER = 336, Path(__file__).parent / "images"
PRODUCTS = {
    "ring": (2_000_009, "metal ring", ("crack", "foreign body", "hole")),
    "leather": (2_000_004, "leather", ("scratch", "hole", "crack")),
    "board": (2_000_002, "circuit board", ("hole", "stain", "scratch")),
}


def main():
    for product, (seed, name, kinds) in PRODUCTS.items():
        category = make_category(seed, name)
        for part in ("normal", "test", "masks"):
            (FOLDER / product / part).mkdir(parents=True, exist_ok=True)
        for index in range(4):
            save(render_sample(category, index, SIZE)[0], product, "normal", f"normal_{index}.jpg")
        for index in range(2):
            save(render_sample(category, 10 + index, SIZE)[0], product, "test", f"good_{index}.jpg")
        for index, kind in enumerate(kinds):
            image, mask, _ = render_sample(category, 20 + index, SIZE, kind)
            stem = kind.replace(" ", "_")
            save(image, product, "test", f"{stem}.jpg")
            Image.fromarray(mask).save(FOLDER / product / "masks" / f"{stem}.png")


def save(image, product: str, part: str, name: str):
    Image.fromarray(image).save(FOLDER / product / part / name, quality=88)


if __name__ == "__main__":
    main()
