"""Holds the verdict of `adaptclip fit` against real defects: the pasted ones that it finds beside the real ones.

    python benchmarks/verdicts.py --data mvtec:/data/mvtec_ad --photos 12 24 40 --output results/verdicts

All good photos of a category, of both its splits, are one pool, of which each profile takes so many at random. A real
defect is found where it scores above the profile's threshold. The last lines say whether the verdict tells one product,
model or number of photos from another (rank correlation, at least 0.6), and whether its warning stands where less than
20 % of the real defects are found and nowhere where more than 70 % are.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from false_alarms import categories
from scipy.stats import spearmanr

from adaptclip_hf import AnomalyDetector, InspectionProfile, View
from adaptclip_hf.cli.argument_types import rate
from adaptclip_hf.files import write_json
from adaptclip_hf.inspection.fit_settings import FitSettings
from adaptclip_hf.inspection.fitting import add_photos, calibrate
from adaptclip_hf.inspection.photo_features import Feedback, PhotoFeatures, score_photo
from adaptclip_hf.inspection.photos import DEFECT, GOOD
from adaptclip_hf.inspection.verdict import BLIND
from adaptclip_hf.model_files import DEFAULT_NAME

MARK, FEW, MANY = 0.6, 0.2, 0.7  # of the rank correlation; shares of real defects


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--models", nargs="+", default=[DEFAULT_NAME])
    parser.add_argument("--photos", nargs="+", type=int, default=[12, 24, 40])
    parser.add_argument("--rate", type=rate, default=0.05, help="of false alarms; 12 photos carry 10 %% at the lowest")
    parser.add_argument("--judged", type=int, default=25, help="defects, and as many other good photos, of each set")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    print("| model | category | photos | asked | alarms | real | pasted | level | calibration s | verdict s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for model in args.models:
        detector = AnomalyDetector.from_pretrained(model)
        for name, images in categories(args.data).items():
            photos = encoded(detector, images, max(args.photos) + args.judged, args.judged)
            for count in args.photos:
                if sum(photo.role == GOOD for photo in photos.photos) < count + 4:
                    continue
                for seed in args.seeds:
                    asked = max(args.rate, float(np.ceil(1000 / (count + 1)) / 1000))
                    row = judged(detector, photos, count, asked, seed)
                    rows.append({"model": str(model), "category": name, "photos": count, **row})
                    print(line(rows[-1]), flush=True)
            write_json(args.output / "verdicts.json", rows)
    print("\n".join(conclusions(rows)))


def encoded(detector, images: dict[str, list], good: int, defects: int) -> PhotoFeatures:
    """The features of at most so many photos of a category, drawn at random; each is encoded once."""
    rng = np.random.default_rng(0)
    drawn = [(rng.permutation(len(images[role]))[:most], role) for role, most in ((GOOD, good), (DEFECT, defects))]
    given = [([images[role][index] for index in numbers], role) for numbers, role in drawn]
    return add_photos(detector, PhotoFeatures(), given, View(), FitSettings(augment="none"), Feedback())[0]


def judged(detector, photos: PhotoFeatures, count: int, asked: float, seed: int) -> dict:
    """One profile: what its verdict says, and what it finds of real defects."""
    of_role = {role: [photo for photo in photos.photos if photo.role == role] for role in (GOOD, DEFECT)}
    order = np.random.default_rng([seed, count]).permutation(len(of_role[GOOD]))
    good = [of_role[GOOD][index] for index in order]
    settings, start = FitSettings(asked, seed=seed, augment="none"), time.perf_counter()
    fitted = calibrate(detector, settings, View(), photos.keep(good[:count]), detector.encode_text(), Feedback())
    profile = InspectionProfile("benchmark", view=View(), **fitted._asdict())
    calibrated = time.perf_counter()
    verdict = profile.with_new_verdict(detector).verdict
    told = time.perf_counter()
    assert verdict is not None  # the photos are there to be opened again
    reference = detector.prepare(profile)
    above = {
        role: [score_photo(detector, photos, photo, reference).score > verdict["threshold"] for photo in some]
        for role, some in ((GOOD, good[count:]), (DEFECT, of_role[DEFECT]))
    }
    return {
        "asked": asked,
        "seed": seed,
        "alarms": float(np.mean(above[GOOD])),
        "found": float(np.mean(above[DEFECT])),
        "pasted": verdict["found"] / verdict["pasted"],
        "level": verdict["level"],
        "calibration_seconds": calibrated - start,
        "verdict_seconds": told - calibrated,
        "verdict": verdict,
    }


def line(row: dict) -> str:
    shares = [f"{100 * row[key]:.0f} %" for key in ("alarms", "found", "pasted")]
    model = Path(row["model"]).name
    seconds = [f"{row[key]:.0f}" for key in ("calibration_seconds", "verdict_seconds")]
    cells = [model, row["category"], row["photos"], f"{100 * row['asked']:.3g} %", *shares, row["level"], *seconds]
    return "| " + " | ".join(map(str, cells)) + " |"


def conclusions(rows: list[dict]) -> list[str]:
    """Whether the verdict holds, in a few lines."""
    lines = []
    if len(rows) > 2:
        correlation = float(spearmanr([row["pasted"] for row in rows], [row["found"] for row in rows])[0])
        lines.append(f"rank correlation of {len(rows)} profiles: {correlation:.2f} (mark: {MARK})")
    few, many = [row for row in rows if row["found"] < FEW], [row for row in rows if row["found"] > MANY]
    warned = [row["level"] == BLIND for row in few]
    lines.append(f"less than {100 * FEW:.0f} % of real defects found: {len(few)} profiles, warned: {sum(warned)}")
    wrongly = [row["level"] == BLIND for row in many]
    lines.append(f"more than {100 * MANY:.0f} % found: {len(many)} profiles, warned: {sum(wrongly)}")
    return lines


if __name__ == "__main__":
    main()
