"""Draws docs/overview.jpg: a model's heatmaps of the sample images with four normal images, on one fixed colour scale.

python examples/draw_overview.py --output docs/overview.jpg
"""

import argparse
from pathlib import Path

from PIL import Image

from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector

IMAGES = Path(__file__).parent / "images"
SHOWN = {"ring": ["good_0", "crack", "foreign_body", "hole"], "leather": ["good_0", "crack"], "board": ["stain"]}
SIDE = 224


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    detector = AnomalyDetector.from_pretrained(args.model)
    sheet = Image.new("RGB", (SIDE * sum(map(len, SHOWN.values())), 2 * SIDE))
    left = 0
    for product, names in SHOWN.items():
        bank = detector.remember(sorted((IMAGES / product / "normal").glob("*.jpg")))
        paths = [IMAGES / product / "test" / f"{name}.jpg" for name in names]
        for path, result in zip(paths, detector.stream(paths, prompt_bank=bank), strict=True):
            print(f"{product} {path.stem}: {result.score:.3f}")
            for row, picture in enumerate((Image.open(path), result.heatmap())):
                sheet.paste(picture.convert("RGB").resize((SIDE, SIDE)), (left, row * SIDE))
            left += SIDE
    sheet.save(args.output, quality=90)


if __name__ == "__main__":
    main()
