"""What each way to compute costs in accuracy: AUROC beside float32's, and the labels of a profile that change.

    python benchmarks/choices.py --data mvtec:/data/mvtec_ad --choices torch:bfloat16 onnx:int8 --output results/choices

float32 on torch is measured first, and every choice after it on the same photos: image and pixel AUROC, zero-shot and
with `--shots` normal images, of the protocol of `adaptclip evaluate`. Then a profile of `--photos` good photos decides
others, and defects: once a profile that the choice made itself, and once the one that float32 made, where it may be
used. A label that differs from float32's is a flip. int8 is calibrated on the first good photos of the first category.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import datasets
import numpy as np
from tqdm import tqdm

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.data import load_data_set
from adaptclip_hf.evaluation.evaluate import evaluate
from adaptclip_hf.export import export_model
from adaptclip_hf.files import write_json
from adaptclip_hf.labels import ANOMALOUS
from adaptclip_hf.model_files import DEFAULT_NAME
from adaptclip_hf.processing.image_loading import load_image

EXACT = "torch:float32"
CALIBRATING = 16
SHARE_OF_FALSE_ALARMS = 0.05


@dataclass
class Photos:
    """Photos of a category: a profile is made of `good`, and decides the others.

    Attributes:
        defective: of `judged`, which are defects.
    """

    good: list
    judged: list
    defective: np.ndarray


@dataclass
class Found:
    """What came of a choice.

    Attributes:
        aurocs: {"data set/category, 0-shot, image_auroc": percent}.
        labels: {category: which of the judged photos its own profile calls anomalous}.
        borrowed: the same by the profile that float32 made; empty where that is refused.
        profiles: {category: its own profile}.
    """

    aurocs: dict[str, float] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    borrowed: dict[str, np.ndarray] = field(default_factory=dict)
    profiles: dict[str, InspectionProfile] = field(default_factory=dict)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument(
        "--choices", nargs="+", required=True, metavar="RUNTIME:PRECISION", help="such as torch:bfloat16, openvino:int8"
    )
    parser.add_argument("--shots", nargs="+", type=int, default=[0, 4])
    parser.add_argument("--photos", type=int, default=30, help="good photos of a profile (%(default)s)")
    parser.add_argument("--judged", type=int, default=40, help="good photos, and as many defects, that it decides")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    photos = photos_of(args.data, args.photos, args.judged)
    exact = None
    print(
        "| choice | worst AUROC lost | mean | flips of its own profile | of float32's profile | found | false alarms |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    record = {}
    for choice in (EXACT, *args.choices):
        detector = opened(choice, args.model, args.output / "exports", next(iter(photos.values())).good)
        folder = args.output / choice.replace(":", "-")
        results = evaluate(detector, args.data, folder, args.shots, (10,), progress=False, overwrite=True)
        found = Found(aurocs(results))
        for name, each in tqdm(photos.items(), choice, leave=False):
            profile = InspectionProfile.fit(
                detector, each.good, false_alarm_rate=SHARE_OF_FALSE_ALARMS, verdict=False, on_error=pass_over
            )
            found.profiles[name], found.labels[name] = profile, decided(detector, each.judged, profile)
            if exact is not None:
                try:
                    found.borrowed[name] = decided(detector, each.judged, exact.profiles[name])
                except ValueError:
                    continue
        exact = exact or found
        print(line(choice, found, exact, photos), flush=True)
        record[choice] = {
            "aurocs": found.aurocs,
            "labels": {name: each.tolist() for name, each in found.labels.items()},
        }
        write_json(args.output / "choices.json", record)
        del detector


def photos_of(specs: list[str], count: int, judged: int) -> dict[str, Photos]:
    """By category, drawn at random; those with too few good photos are left out."""
    found: dict[str, tuple[list, list]] = {}
    for spec in specs:
        for row in load_data_set(spec).cast_column("image", datasets.Image(decode=False)):
            found.setdefault(row["category"], ([], []))[row["label"] == 1].append(row["image"])
    chosen = {}
    for name, (good, bad) in found.items():
        rng = np.random.default_rng(0)
        good, bad = ([each[number] for number in rng.permutation(len(each))] for each in (good, bad))
        if len(good) >= count + 4:
            others = [*good[count : count + judged], *bad[:judged]]
            chosen[name] = Photos(good[:count], others, np.arange(len(others)) >= len(good[count : count + judged]))
    return chosen


def opened(choice: str, model: str, exports: Path, samples: list) -> AnomalyDetector:
    """A detector that computes in this way."""
    runtime, precision = choice.split(":")
    if runtime == "torch":
        return AnomalyDetector.from_pretrained(model, device="cpu", dtype=precision)
    folder = exports / choice.replace(":", "-")
    if not folder.exists():
        plain = AnomalyDetector.from_pretrained(model, device="cpu", dtype="float32")
        images = [load_image(each) for each in samples[:CALIBRATING]]
        export_model(plain, folder, runtime, precision, images=images)
    return AnomalyDetector.from_pretrained(folder, device="cpu")


def aurocs(results: dict) -> dict[str, float]:
    """All AUROCs of an evaluation, by category, setting and kind."""
    return {
        f"{each['data_set']}/{each['category']}, {each['shots']}-shot, {kind}": 100 * each["metrics"][kind]
        for each in results["results"]
        for kind in ("image_auroc", "pixel_auroc")
        if kind in each["metrics"]
    }


def decided(detector: AnomalyDetector, images: list, profile: InspectionProfile) -> np.ndarray:
    """Which of the images are called anomalous."""
    results = detector.detect(images, profile=profile, on_error=pass_over)
    return np.array([result.label == ANOMALOUS for result in results])


def pass_over(name: str, error: Exception):
    tqdm.write(f"not read: {name}: {error}")


def line(choice: str, found: Found, exact: Found, photos: dict[str, Photos]) -> str:
    lost = {name: (exact.aurocs[name] - value) for name, value in found.aurocs.items()}
    worst = max(lost, key=lambda name: lost[name])
    defective = np.concatenate([photos[name].defective for name in found.labels])
    own, before = (np.concatenate([labels[name] for name in found.labels]) for labels in (found.labels, exact.labels))
    cells = [
        choice,
        f"{lost[worst]:.2f} ({worst})",
        f"{np.mean(list(lost.values())):.2f}",
        f"{(own != before).sum()} of {len(own)}",
        borrowed_flips(found, exact),
        f"{100 * own[defective].mean():.1f} %",
        f"{100 * own[~defective].mean():.1f} %",
    ]
    return "| " + " | ".join(cells) + " |"


def borrowed_flips(found: Found, exact: Found) -> str:
    if not found.borrowed:
        return "-"
    flips = sum(int((labels != exact.labels[name]).sum()) for name, labels in found.borrowed.items())
    return f"{flips} of {sum(map(len, found.borrowed.values()))}"


if __name__ == "__main__":
    main()
