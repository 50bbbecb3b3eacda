"""Draws docs/overview.jpg: sample images above, the embedded model's heatmaps of them below.

python examples/make_overview.py
"""

from pathlib import Path

from PIL import Image
from transformers import pipeline

from adaptclip_hf import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parent
TESTS = (
    "ring/good_0",
    "ring/crack",
    "ring/foreign_body",
    "ring/hole",
    "leather/good_0",
    "leather/crack",
    "board/stain",
)
SIDE = 224


def main():
    detect = pipeline("anomaly-detection", model=DEFAULT_MODEL)
    sheet = Image.new("RGB", (SIDE * len(TESTS), 2 * SIDE), "white")
    for column, test in enumerate(TESTS):
        product, name = test.split("/")
        folder = ROOT / "images" / product
        normal = [str(path) for path in sorted((folder / "normal").iterdir())]
        result = detect(str(folder / "test" / f"{name}.jpg"), normal_images=normal)
        for row, image in enumerate((Image.open(result["path"]), result["heatmap"])):
            sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (column * SIDE, row * SIDE))
        print(f"{test:20} {result['score']:.3f}")
    sheet.save(ROOT.parent / "docs" / "overview.jpg", quality=85)


if __name__ == "__main__":
    main()
