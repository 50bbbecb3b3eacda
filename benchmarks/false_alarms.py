"""What a profile promises and what comes: false alarms and found defects over random draws of good photos.

    python benchmarks/false_alarms.py --data mvtec:/data/mvtec_ad --photos 20 40 --rates 5% 10% --output results/alarms

All good photos of a category, of both its splits, are one pool. Each draw takes so many of them at random for a
profile, and judges others of the pool and known defects. Beside the rate that was asked stand what the profile expects,
the measured rate of false alarms, its standard error over the draws, and the share of defects found. Each photo is
encoded once.
"""

import argparse
from pathlib import Path

import datasets
import numpy as np
from tqdm import tqdm

from adaptclip_hf import AnomalyDetector, View
from adaptclip_hf.cli.argument_types import rate
from adaptclip_hf.data import load_data_set
from adaptclip_hf.engine import PlainReference
from adaptclip_hf.files import write_json
from adaptclip_hf.inspection.calibration import Calibration
from adaptclip_hf.inspection.fit_settings import FitSettings
from adaptclip_hf.inspection.fitting import add_photos, calibrate
from adaptclip_hf.inspection.photo_features import DEFECT, GOOD, Feedback, PhotoFeatures, score_photo
from adaptclip_hf.inspection.split import Split
from adaptclip_hf.model_files import DEFAULT_NAME

STORAGE = "float16"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--photos", nargs="+", type=int, default=[20, 40])
    parser.add_argument("--rates", nargs="+", type=rate, default=[0.05, 0.1])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--judged", type=int, default=40, help="good photos, and as many defects, judged of each draw")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    detector = AnomalyDetector.from_pretrained(args.model)
    print("| category | photos | asked | method | expected | false alarms | standard error | defects found |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for name, images in categories(args.data).items():
        given = [(images[GOOD], GOOD), (images[DEFECT], DEFECT)]
        features = add_photos(detector, PhotoFeatures(), given, View(), STORAGE, Feedback())
        for photos in args.photos:
            if sum(photo.role == GOOD for photo in features.photos) < photos + 4:
                continue
            found = [
                draw(detector, features, photos, args.rates, args.judged, seed)
                for seed in tqdm(range(args.draws), name, leave=False)
            ]
            for asked in args.rates:
                rows.append(
                    {"category": name, "photos": photos, "asked": asked, **summary([each[asked] for each in found])}
                )
                print(line(rows[-1]), flush=True)
        write_json(args.output / "false_alarms.json", rows)
    for photos in args.photos:
        for asked in args.rates:
            some = [row for row in rows if (row["photos"], row["asked"]) == (photos, asked)]
            if some:
                mean = {key: float(np.mean([row[key] for row in some])) for key in ("expected", "alarms", "found")}
                error = float(np.sqrt(sum(row["error"] ** 2 for row in some)) / len(some))
                print(
                    line(
                        {"category": "**mean**", "photos": photos, "asked": asked, "method": "", "error": error, **mean}
                    )
                )


def categories(specs: list[str]) -> dict[str, dict[str, list]]:
    """{category: {role: images}}, of those that have good photos to judge."""
    found: dict[str, dict[str, list]] = {}
    for spec in specs:
        for row in load_data_set(spec).cast_column("image", datasets.Image(decode=False)):
            role = DEFECT if row["label"] else GOOD
            found.setdefault(row["category"], {GOOD: [], DEFECT: []})[role].append(row["image"])
    return {name: images for name, images in found.items() if images[GOOD]}


def draw(
    detector, features: PhotoFeatures, count: int, rates: list[float], judged: int, seed: int
) -> dict[float, dict]:
    """{rate: what came} of one draw of photos; rates that share a split share the scores."""
    rng = np.random.default_rng([seed, count])
    good = rng.permutation([index for index, photo in enumerate(features.photos) if photo.role == GOOD])
    defects = rng.permutation([index for index, photo in enumerate(features.photos) if photo.role == DEFECT])[:judged]
    chosen = features.keep(features.photos[index] for index in good[:count])
    others = [features.photos[index] for index in (*good[count : count + judged], *defects)]
    text_embeds = detector.encode_text()
    by_split, results = {}, {}
    for asked in rates:
        split = Split.of(count, asked)
        if split not in by_split:
            settings = FitSettings(asked, storage=STORAGE, seed=seed)
            fitted = calibrate(detector, settings, View(), chosen, text_embeds, Feedback())
            bank = fitted.features.bank(fitted.made_by, View(), fitted.bank_rows)
            reference = detector.prepare(PlainReference(bank, text_embeds=text_embeds))
            by_split[split] = fitted, [score_photo(detector, features, photo, reference) for photo in others]
        fitted, scored = by_split[split]
        calibration = Calibration.at_rate(fitted.calibration.scores, asked)
        above = {role: [p.score > calibration.threshold for p in scored if p.role == role] for role in (GOOD, DEFECT)}
        results[asked] = {
            "method": fitted.method,
            "expected": calibration.expected_rate,
            "alarms": float(np.mean(above[GOOD])),
            "found": float(np.mean(above[DEFECT])) if above[DEFECT] else float("nan"),
        }
    return results


def summary(draws: list[dict]) -> dict:
    alarms = [each["alarms"] for each in draws]
    return {
        "method": draws[0]["method"],
        "expected": draws[0]["expected"],
        "alarms": float(np.mean(alarms)),
        "error": float(np.std(alarms, ddof=1) / np.sqrt(len(alarms))),
        "found": float(np.mean([each["found"] for each in draws])),
    }


def line(row: dict) -> str:
    shares = [f"{100 * row[key]:.1f} %" for key in ("expected", "alarms", "error", "found")]
    cells = [row["category"], row["photos"], f"{100 * row['asked']:g} %", row["method"], *shares]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
