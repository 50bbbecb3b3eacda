"""Renders photos of a production line: forty of good parts, and a day's photos, of which some show defects.

    python examples/make_line.py line

line/good/ (40 photos), line/monday/ (12 good parts and 6 defective ones; the name says which). Procedural and seeded.
"""

import argparse
from pathlib import Path

from PIL import Image

from adaptclip_hf.synthetic import make_category, render_sample

GOOD, GOOD_ON_MONDAY, SIDE = 40, 12, 400
DEFECTS = ("crack", "hole", "scratch", "stain", "foreign body", "crack")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder to write")
    folder = parser.parse_args().folder
    category = make_category(2_000_009, "metal ring")
    for part in ("good", "monday"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(GOOD):
        save(render_sample(category, 100 + index, SIDE), folder / "good" / f"{index:03}.jpg")
    for index in range(GOOD_ON_MONDAY):
        save(render_sample(category, 500 + index, SIDE), folder / "monday" / f"{index:03}_good.jpg")
    for index, defect in enumerate(DEFECTS, GOOD_ON_MONDAY):
        name = f"{index:03}_{defect.replace(' ', '_')}.jpg"
        save(render_sample(category, 500 + index, SIDE, defect), folder / "monday" / name)


def save(sample, file: Path):
    Image.fromarray(sample[0]).save(file, quality=90)


if __name__ == "__main__":
    main()
