"""What comes of good parts of several photos each, decided part by part and photo by photo.

    python benchmarks/parts.py --data mvtec:/data/mvtec_ad --parts 19 --output results/parts

Parts are made of good photos of a category: the four quarters of one photo, as four cameras would show it
(`quarters`), or four photos (`photos`). Each draw takes some parts at random for a profile, leave-one-out, and judges
the others. Part by part, a part's photos leave the bank together and the highest of them calibrates; photo by photo,
each leaves alone and calibrates for itself, as without `--part-pattern`. A part is called anomalous if one of its
photos is. Beside the rate of parts that are called so stands its standard error over the draws; where photos of a part
were independent, the rate photo by photo would be 1 - (1 - rate)^4.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from false_alarms import SETTINGS, WHOLE, Pool, categories
from PIL import Image
from tqdm import tqdm

from adaptclip_hf import AnomalyDetector
from adaptclip_hf.cli.argument_types import rate
from adaptclip_hf.files import write_json
from adaptclip_hf.inspection.calibration import Calibration
from adaptclip_hf.inspection.fitting import add_photos
from adaptclip_hf.inspection.parts import groups_of, highest
from adaptclip_hf.inspection.photo_features import Feedback, PhotoFeatures
from adaptclip_hf.inspection.photos import GOOD, ProfilePhoto
from adaptclip_hf.inspection.split import LEAVE_ONE_OUT, Split
from adaptclip_hf.model_files import DEFAULT_NAME
from adaptclip_hf.processing.image_loading import load_image

PHOTOS_A_PART = 4
QUARTERS, PHOTOS = "quarters", "photos"
BY_PART, BY_PHOTO = "part by part", "photo by photo"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--made-of", nargs="+", choices=(QUARTERS, PHOTOS), default=(QUARTERS, PHOTOS))
    parser.add_argument("--parts", type=int, default=19, help="of a profile")
    parser.add_argument("--pool", type=int, default=48, help="parts of a category")
    parser.add_argument("--rates", nargs="+", type=rate, default=[0.05, 0.1])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    detector = AnomalyDetector.from_pretrained(args.model)
    print("| category | a part is | parts | judged | asked | decided | parts called anomalous | standard error |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for name, images in categories(args.data).items():
        for made_of in args.made_of:
            photos, parts = parts_of(images[GOOD], made_of, args.pool)
            if len(photos) < PHOTOS_A_PART * (args.parts + 4):
                continue
            given = [(photos, GOOD)]
            features = add_photos(detector, PhotoFeatures(), given, WHOLE, SETTINGS, Feedback(), parts=parts)[0]
            pool = Pool.of_features(detector, features)
            draws = [draw(pool, args.parts, args.rates, seed) for seed in tqdm(range(args.draws), name, leave=False)]
            judged = len(groups_of(features.photos)) - args.parts
            for asked, way in draws[0]:
                alarms = [each[asked, way] for each in draws]
                about = {"category": name, "made_of": made_of, "parts": args.parts, "judged": judged, "asked": asked}
                error = float(np.std(alarms, ddof=1) / np.sqrt(len(alarms)))
                rows.append(about | {"decided": way, "alarms": float(np.mean(alarms)), "error": error})
                shares = [f"{100 * each:.1f} %" for each in (rows[-1]["alarms"], error)]
                cells = [name, made_of, args.parts, judged, f"{100 * asked:g} %", way, *shares]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    write_json(args.output / "parts.json", rows)


def parts_of(images: list, made_of: str, most: int) -> tuple[list, list[str]]:
    """Photos of at most so many parts, drawn at random, and the part of each."""
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    if made_of == PHOTOS:
        count = min(most, len(order) // PHOTOS_A_PART) * PHOTOS_A_PART
        return [images[number] for number in order[:count]], [f"{n // PHOTOS_A_PART}" for n in range(count)]
    photos = [quarter for number in order[:most] for quarter in quarters(load_image(images[number]))]
    return photos, [f"{n // PHOTOS_A_PART}" for n in range(len(photos))]


def quarters(image: Image.Image) -> list[Image.Image]:
    across, down = image.width // 2, image.height // 2
    return [image.crop((x, y, x + across, y + down)) for y in (0, down) for x in (0, across)]


def draw(pool: Pool, count: int, rates: list[float], seed: int) -> dict[tuple[float, str], float]:
    """{(rate, way): share of the judged parts that are called anomalous} of one draw of parts."""
    photos = pool.features.photos
    groups = groups_of(photos)
    order = np.random.default_rng([seed, count]).permutation(len(groups)).tolist()
    own, others = ([number for part in some for number in groups[part]] for some in (order[:count], order[count:]))
    judged = scored(pool, others, own)
    by_part = [photo for part in order[:count] for photo in left_out(pool, groups[part], own)]
    by_photo = [photo for number in own for photo in left_out(pool, [number], own)]
    called = {}
    for asked in rates:
        Split.of(count, asked, LEAVE_ONE_OUT)  # refuses what parts do not carry
        for way, scores in ((BY_PART, highest(by_part)), (BY_PHOTO, [photo.score for photo in by_photo])):
            threshold = Calibration.at_rate(scores, asked).threshold
            called[asked, way] = float((np.array(highest(judged)) > threshold).mean())
    return called


def left_out(pool: Pool, some: list[int], own: list[int]) -> list[ProfilePhoto]:
    """Some photos of a profile, scored against the others."""
    return scored(pool, some, [number for number in own if number not in some])


def scored(pool: Pool, numbers: list[int], bank: list[int]) -> list[ProfilePhoto]:
    scores = pool.scores(numbers, bank)
    return [replace(pool.features.photos[number], score=score) for number, score in zip(numbers, scores, strict=True)]


if __name__ == "__main__":
    main()
