"""Which answer photos get that show another product, nothing, or too little, beside good parts and defects.

    python benchmarks/not_inspectable.py --data mvtec:/data/mvtec_ad mvtec:/data/elpv --output results/inspectable

A profile is made of `--photos` good photos of each category, drawn at random. It judges other good photos of both
splits, known defects, photos of the other categories, and good photos that were spoiled: at a tenth of their light,
blurred (6 pixels at a side of 518), and in their place an even black, grey or white, and a lens cap (dark noise).
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from false_alarms import categories
from PIL import Image, ImageFilter
from tqdm import tqdm

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.cli.argument_types import rate
from adaptclip_hf.files import write_json
from adaptclip_hf.inspection.photos import DEFECT, GOOD
from adaptclip_hf.labels import ANOMALOUS, NORMAL, NOT_INSPECTABLE
from adaptclip_hf.model_files import DEFAULT_NAME
from adaptclip_hf.processing.image_loading import load_image

ANSWERS = (NORMAL, ANOMALOUS, NOT_INSPECTABLE)
DARK, BLUR, SIDE = 0.1, 6, 518


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--false-alarm-rate", type=rate, default=0.05)
    parser.add_argument("--judged", type=int, default=60, help="good photos and defects of a category, at most")
    parser.add_argument("--others", type=int, default=4, help="photos of each other category")
    parser.add_argument("--spoiled", type=int, default=6, help="good photos that are spoiled in each way")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    detector = AnomalyDetector.from_pretrained(args.model)
    images, rng = categories(args.data), np.random.default_rng(0)
    drawn = {
        name: {role: [some[n] for n in rng.permutation(len(some))] for role, some in roles.items()}
        for name, roles in images.items()
    }
    print("| profile of | photos | " + " | ".join(ANSWERS) + " | reasons |\n|---|---|---|---|---|---|", flush=True)
    rows = []
    for name, roles in drawn.items():
        profile = InspectionProfile.fit(
            detector, roles[GOOD][: args.photos], args.false_alarm_rate, verdict=False, augment="none"
        )
        good = roles[GOOD][args.photos : args.photos + args.judged]
        kinds = {
            "good": good,
            "defects": roles[DEFECT][: args.judged],
            "other products": [each for other in drawn if other != name for each in drawn[other][GOOD][: args.others]],
            **{kind: list(some) for kind, some in spoiled(good[: args.spoiled])},
        }
        for kind, some in kinds.items():
            results = list(tqdm(detector.stream(some, profile=profile), f"{name}, {kind}", len(some), leave=False))
            labels = Counter(each.label for each in results)
            reasons = Counter(each.reason for each in results if each.label == NOT_INSPECTABLE)
            rows.append({"category": name, "photos": kind, **{each: labels[each] for each in ANSWERS}})
            rows[-1]["reasons"] = dict(reasons)
            print(line(rows[-1]), flush=True)
        write_json(args.output / "not_inspectable.json", rows)
    for kind in dict.fromkeys(row["photos"] for row in rows):
        some = [row for row in rows if row["photos"] == kind]
        reasons = sum((Counter(row["reasons"]) for row in some), Counter())
        total = {each: sum(row[each] for row in some) for each in ANSWERS}
        print(line({"category": "**all**", "photos": kind, **total, "reasons": reasons}))


def spoiled(good: list) -> Iterator[tuple[str, list[Image.Image]]]:
    """(what was done, photos)."""
    photos = [load_image(each) for each in good]
    yield "a tenth of the light", [photo.point(lambda value: int(value * DARK)) for photo in photos]
    yield "blurred", [photo.filter(ImageFilter.GaussianBlur(BLUR * max(photo.size) / SIDE)) for photo in photos]
    size = photos[0].size
    yield "black, grey, white", [Image.new("RGB", size, (value, value, value)) for value in (0, 128, 255)]
    noise = np.random.default_rng(0).normal(5, 3, (*size[::-1], 3))
    yield "lens cap", [Image.fromarray(noise.clip(0, 255).astype(np.uint8))]


def line(row: dict) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in row["reasons"].items())
    return (
        "| " + " | ".join(map(str, [row["category"], row["photos"], *(row[each] for each in ANSWERS), reasons])) + " |"
    )


if __name__ == "__main__":
    main()
