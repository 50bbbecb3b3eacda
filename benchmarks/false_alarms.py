"""What a profile promises and what comes: false alarms and found defects over random draws of good photos.

    python benchmarks/false_alarms.py --data mvtec:/data/mvtec_ad --photos 20 40 --rates 5% 10% --output results/alarms

All good photos of a category, of both its splits, are one pool, of at most `--pool` photos. Each draw takes so many of
them at random for a profile, and judges others of the pool and known defects. All calibrations have the same draws and
judge the same photos. Beside the rate that was asked stand what the profile expects, the measured rate of false alarms,
its standard error over the draws, and the share of defects found; and the share that would be found if exactly the
asked share of the judged good photos were false alarms, which no profile can know, but which compares models and
calibrations whose alarms differ. With `--min-area` regions of that area decide in place of the score. Photos are looked
at as a whole. Each is encoded once and compared once with every good one; how it scores against any of them follows in
milliseconds.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from tqdm import tqdm

from adaptclip_hf import AnomalyDetector, View
from adaptclip_hf.cli.argument_types import rate
from adaptclip_hf.data import load_data_set
from adaptclip_hf.engine import DetectionResult, PlainReference
from adaptclip_hf.engine.reference import PreparedReference
from adaptclip_hf.files import write_json
from adaptclip_hf.inspection.acceptance import Acceptance
from adaptclip_hf.inspection.calibration import Calibration
from adaptclip_hf.inspection.fit_settings import FitSettings
from adaptclip_hf.inspection.fitting import add_photos
from adaptclip_hf.inspection.nearest import ComparedImages
from adaptclip_hf.inspection.photo_features import Feedback, PhotoFeatures, result_of_photo
from adaptclip_hf.inspection.photos import CALIBRATING, DEFECT, GOOD, IN_BANK, made_by
from adaptclip_hf.inspection.split import AUTO, METHODS, Split
from adaptclip_hf.model_files import DEFAULT_NAME
from adaptclip_hf.modeling.normal_variation import NormalComparison, mean_tokens, nearest_distances

SETTINGS, WHOLE = FitSettings(augment="none"), View(tile="whole")
SHARES = ("expected", "alarms", "error", "found", "found_at_asked")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--photos", nargs="+", type=int, default=[20, 40])
    parser.add_argument("--rates", nargs="+", type=rate, default=[0.05, 0.1])
    parser.add_argument("--calibration", nargs="+", choices=METHODS, default=[AUTO])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--min-area", type=int, metavar="PIXELS", help="regions of this area decide (an Acceptance)")
    parser.add_argument("--judged", type=int, default=40, help="good photos, and as many defects, judged of each draw")
    parser.add_argument("--pool", type=int, default=120, help="good photos, and half as many defects, of a category")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    detector = AnomalyDetector.from_pretrained(args.model)
    print("| category | photos | asked | calibration | expected | alarms | standard error | found | found at asked |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for name, images in categories(args.data).items():
        acceptance = None if args.min_area is None else Acceptance(args.min_area)
        pool = Pool.of(detector, images, args.pool, acceptance)
        for photos in args.photos:
            if len(pool.good) < photos + 4:
                continue
            draws = [
                draw(pool, photos, args.rates, args.calibration, args.judged, seed)
                for seed in tqdm(range(args.draws), name, leave=False)
            ]
            for asked, method in draws[0]:
                about = {"category": name, "photos": photos, "asked": asked, "calibration": method}
                rows.append(about | summary([each[asked, method] for each in draws]))
                print(line(rows[-1]), flush=True)
        write_json(args.output / "false_alarms.json", rows)
    for key in dict.fromkeys((row["photos"], row["asked"], row["calibration"]) for row in rows):
        some = [row for row in rows if (row["photos"], row["asked"], row["calibration"]) == key]
        print(line(dict(zip(("photos", "asked", "calibration"), key, strict=True)) | mean(some)))


def categories(specs: list[str]) -> dict[str, dict[str, list]]:
    """{category: {role: images}}, of those that have good photos to judge."""
    found: dict[str, dict[str, list]] = {}
    for spec in specs:
        for row in load_data_set(spec).cast_column("image", datasets.Image(decode=False)):
            role = DEFECT if row["label"] else GOOD
            found.setdefault(row["category"], {GOOD: [], DEFECT: []})[role].append(row["image"])
    return {name: images for name, images in found.items() if images[GOOD]}


@dataclass
class Pool:
    """The photos of a category, which can be scored against any of its good ones.

    Attributes:
        good, defects: numbers of the photos; the good ones come first.
        comparison: of the good ones with one another.
        acceptance: by which regions decide; `None` for the score.
    """

    detector: AnomalyDetector
    features: PhotoFeatures
    good: range
    defects: range
    compared: ComparedImages
    comparison: NormalComparison
    acceptance: Acceptance | None

    @classmethod
    @torch.inference_mode()
    def of(
        cls, detector: AnomalyDetector, images: dict[str, list], most: int, acceptance: Acceptance | None = None
    ) -> "Pool":
        """Photos of a category, drawn at random where there are more than `most` good ones, or half as many defects."""
        rng = np.random.default_rng(0)
        some = {role: [images[role][n] for n in rng.permutation(len(images[role]))] for role in (GOOD, DEFECT)}
        given = [(some[GOOD][:most], GOOD), (some[DEFECT][: most // 2], DEFECT)]
        features, _ = add_photos(detector, PhotoFeatures(), given, WHOLE, SETTINGS, Feedback())
        return cls.of_features(detector, features, acceptance)

    @classmethod
    @torch.inference_mode()
    def of_features(
        cls, detector: AnomalyDetector, features: PhotoFeatures, acceptance: Acceptance | None = None
    ) -> "Pool":
        """
        Args:
            features: the good photos come first.
        """
        good = range(sum(photo.role == GOOD for photo in features.photos))
        everything = features.bank(made_by(detector, None), WHOLE, range(len(features.photos)))
        everything = everything.to(detector.device, detector.model.dtype)
        minima = []
        for layer in everything.features:
            minima.append(torch.stack([nearest_distances(layer, layer[number]) for number in good], 1))
        compared = ComparedImages(everything.select(good), everything.features, torch.stack(minima))
        whole = mean_tokens([layer[good] for layer in everything.features])
        comparison = NormalComparison(compared.minima[:, good], torch.arange(len(good)), whole)
        return cls(detector, features, good, range(len(good), len(features.photos)), compared, comparison, acceptance)

    @torch.inference_mode()
    def scores(self, numbers: Sequence[int], bank: Sequence[int]) -> list[float]:
        """Scores of some photos against a bank of good ones."""
        model = self.detector.model
        variation = self.comparison.variation(bank) if model.config.normal_variation else None
        scores, text_embeds = [], self.detector.encode_text()
        for number in numbers:
            if not model.config.few_shot_adapters:  # the distances, which are known, score alone
                distances = self.compared.minima[:, number][:, list(bank)].amin(1)
                grid = (1, len(distances), model.config.grid_size, model.config.grid_size)
                features = self.features.unpacked(slice(*self.features.photos[number].rows))
                known = [] if variation is None else [variation]
                score, fused_map = model._fuse({}, distances.view(grid), features, known)
                scores.append(self.deciding_score(number, float(score), fused_map[0].numpy()))
                continue
            nearest = self.compared.nearest(number, bank, variation)
            reference = PreparedReference(PlainReference(view=WHOLE), nearest, text_embeds)
            result = result_of_photo(self.detector, self.features, self.features.photos[number], reference)
            scores.append(self.deciding_score(number, result.score, result.model_map))
        return scores

    def deciding_score(self, number: int, score: float, anomaly_map: np.ndarray) -> float:
        """By which a photo is decided, of its score and its map."""
        if self.acceptance is None:
            return score
        return self.acceptance.score(DetectionResult("", score, anomaly_map, self.features.photos[number].size))


def draw(
    pool: Pool, count: int, rates: list[float], methods: list[str], judged: int, seed: int
) -> dict[tuple[float, str], dict]:
    """{(rate, calibration): what came} of one draw of photos."""
    rng = np.random.default_rng([seed, count])
    good, defects = rng.permutation(pool.good).tolist(), rng.permutation(pool.defects).tolist()[:judged]
    chosen, others = good[:count], good[count : count + judged]
    calibrated: dict[Split, tuple[list[float], tuple[int, ...]]] = {}
    decided: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}  # by the bank
    results = {}
    for asked, method in ((asked, method) for asked in rates for method in methods):
        split = Split.of(count, asked, method)
        if split not in calibrated:
            calibrated[split] = calibrate(pool, split, chosen, seed)
        own, bank = calibrated[split]
        if bank not in decided:
            decided[bank] = np.array(pool.scores(others, bank)), np.array(pool.scores(defects, bank))
        calibration = Calibration.at_rate(own, asked)
        normal, bad = decided[bank]
        results[asked, method] = {
            "method": split.method,
            "expected": calibration.expected_rate,
            "alarms": float((normal > calibration.threshold).mean()),
            "found": float((bad > calibration.threshold).mean()) if len(bad) else float("nan"),
            "found_at_asked": found_at(asked, normal, bad) if len(bad) else float("nan"),
        }
    return results


def calibrate(pool: Pool, split: Split, chosen: list[int], seed: int) -> tuple[list[float], tuple[int, ...]]:
    """Scores of the photos that calibrate, as a profile of the chosen ones has them, and its bank."""
    photos = split.assign([pool.features.photos[number] for number in chosen], seed)
    bank = [number for number, photo in zip(chosen, photos, strict=True) if photo.role in IN_BANK]
    scores = []
    for fold in split.folds(photos, seed):
        asking = [chosen[each] for each in fold if photos[each].role in CALIBRATING]
        left_out = {chosen[each] for each in fold}
        scores += pool.scores(asking, [number for number in bank if number not in left_out]) if asking else []
    return scores, tuple(bank)


def found_at(share: float, normal: np.ndarray, bad: np.ndarray) -> float:
    """Which defects a threshold finds that this share of good photos exceeds, in proportion between two scores."""
    thresholds = [*np.sort(normal)[::-1], -np.inf]
    found = [(bad > threshold).mean() for threshold in thresholds]
    return float(np.interp(share * len(normal), range(len(found)), found))


def summary(draws: list[dict]) -> dict:
    """The means over draws; the standard error is that of the false alarms."""
    means = {name: float(np.mean([each[name] for each in draws])) for name in SHARES if name != "error"}
    alarms = [each["alarms"] for each in draws]
    return {"method": draws[0]["method"], **means, "error": float(np.std(alarms, ddof=1) / np.sqrt(len(alarms)))}


def mean(rows: list[dict]) -> dict:
    """Over categories, with how many of them lie above the asked rate by more than two standard errors."""
    above = sum(row["alarms"] > row["asked"] + 2 * row["error"] for row in rows)
    means = {name: float(np.mean([row[name] for row in rows])) for name in SHARES}
    means["error"] = float(np.sqrt(sum(row["error"] ** 2 for row in rows)) / len(rows))
    return {"category": f"**mean**, {above} of {len(rows)} above asked", "method": rows[0]["method"], **means}


def line(row: dict) -> str:
    method = row["method"] if row["calibration"] in (AUTO, row["method"]) else row["calibration"]
    shares = [f"{100 * row[name]:.1f} %" for name in SHARES]
    cells = [row["category"], row["photos"], f"{100 * row['asked']:g} %", method, *shares]
    return "| " + " | ".join(map(str, cells)) + " |"


if __name__ == "__main__":
    main()
