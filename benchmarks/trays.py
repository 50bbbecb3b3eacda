"""Trays of parts, looked at in tiles: the seconds of a fit and of a score, and where the boxes lie.

    python benchmarks/trays.py --data /data/mvtec_ad/bottle --tile 518

Six photos of bottles lie on one canvas of 2072 x 1554 pixels, each in its cell and some pixels beside its middle. A
profile is made of 20 good trays; six trays with one broken bottle and some more good ones are scored. A box counts if
it overlaps the mask of the broken bottle's defect. Where a bottle lies follows from the tray's number alone.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from adaptclip_hf import AnomalyDetector, InspectionProfile, View
from adaptclip_hf.model_files import DEFAULT_NAME

WIDTH, HEIGHT = 2072, 1554
COLUMNS, ROWS = 3, 2
PARTS = COLUMNS * ROWS
EMPTY = (244, 244, 244)  # about the colour behind the bottles
BROKEN = ("broken_large", "broken_small")
PLACES = {"auto": "auto", "only": "only", "beside": True, "any": False}


class Tray(NamedTuple):
    """A tray with six parts, and where its defect is (H, W)."""

    name: str
    image: Image.Image
    mask: np.ndarray


class Seconds:
    """Seconds on the clock and on all processors since it was made."""

    def __init__(self):
        self.start = clocks()

    def __str__(self) -> str:
        wall, processors = (now - then for now, then in zip(clocks(), self.start, strict=True))
        return f"{wall:.1f} s on the clock, {processors:.1f} s of processors"


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a category in MVTec AD's layout, such as bottle")
    parser.add_argument("--model", default=DEFAULT_NAME)
    parser.add_argument("--tile", default="518", help="pixels, or whole")
    parser.add_argument(
        "--same-place", choices=PLACES, default="auto", help="which normal tiles a tile is compared with"
    )
    parser.add_argument("--trays", type=int, default=20, help="good ones that the profile is made of")
    parser.add_argument("--false-alarm-rate", type=float, default=0.05)
    parser.add_argument("--good", type=int, default=4, help="more good ones that are scored")
    parser.add_argument("--bad", type=int, default=6, help="trays with a broken bottle that are scored")
    parser.add_argument("--jitter", type=int, default=12, help="pixels that a part may lie beside its cell's middle")
    parser.add_argument("--verdict", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    detector = AnomalyDetector.from_pretrained(args.model, device="cpu")
    tile = args.tile if args.tile == "whole" else int(args.tile)
    view = View(tile=tile, same_place=PLACES[args.same_place])
    parts = sorted((args.data / "train" / "good").iterdir())
    trays = [good_tray(number, parts, args.jitter) for number in range(args.trays + args.good)]
    seconds = Seconds()
    profile = InspectionProfile.fit(
        detector,
        [tray.image for tray in trays[: args.trays]],
        args.false_alarm_rate,
        view=view,
        report=print,
        verdict=args.verdict,
    )
    print(f"fit of {args.trays} trays in {len(profile.features.tensors['image_embeds'])} tiles: {seconds}")
    print(profile.describe())
    print(profile.verdict_text or "")
    score(detector, profile, trays[args.trays :])
    score(detector, profile, list(bad_trays(args.data, args.bad, args.jitter)))


def score(detector: AnomalyDetector, profile: InspectionProfile, trays: list[Tray]):
    found = on_it = 0
    for tray in trays:
        seconds = Seconds()
        [result] = detector.detect(tray.image, profile=profile)
        boxes = [region["box"] for region in result.regions or ()]
        hits = [tray.mask[y : y + height, x : x + width].any() for x, y, width, height in boxes]
        found += result.label == "anomalous"
        on_it += result.label == "anomalous" and any(hits)
        true = "-" if not tray.mask.any() else str(box_of(tray.mask))
        told = ", ".join(f"{box}{'' if hit else ' beside it'}" for box, hit in zip(boxes, hits, strict=True))
        print(f"{tray.name}: {result.label} {result.score:.4f}; {seconds}; defect {true}; boxes {told or '-'}")
    if trays:
        print(f"{found} of {len(trays)} anomalous, {on_it} with a box on the defect")


def good_tray(number: int, parts: list[Path], jitter: int) -> Tray:
    chosen = [Image.open(parts[(number * PARTS + part) % len(parts)]).convert("RGB") for part in range(PARTS)]
    return laid_out(f"good tray {number}", chosen, None, 0, number, jitter)


def bad_trays(data: Path, count: int, jitter: int) -> Iterator[Tray]:
    """Trays of good bottles of the test photos, with one broken one each, at another place on each tray."""
    good = sorted((data / "test" / "good").iterdir())
    broken = [sorted((data / "test" / kind).iterdir()) for kind in BROKEN]
    for number in range(count):
        photo = broken[number % len(BROKEN)][number]
        mask = Image.open(data / "ground_truth" / photo.parent.name / f"{photo.stem}_mask.png").convert("L")
        photos = [good[(number * (PARTS - 1) + part) % len(good)] for part in range(PARTS - 1)]
        place = number % PARTS
        photos.insert(place, photo)
        images = [Image.open(each).convert("RGB") for each in photos]
        yield laid_out(f"bad tray {number} ({photo.parent.name})", images, mask, place, 1000 + number, jitter)


def laid_out(name: str, parts: list[Image.Image], mask: Image.Image | None, place: int, seed: int, jitter: int) -> Tray:
    """Parts on a canvas, each some pixels beside the middle of its cell.

    Args:
        mask: of the part at `place`, if that has a defect.
    """
    rng = np.random.default_rng(seed)
    canvas, whole_mask = Image.new("RGB", (WIDTH, HEIGHT), EMPTY), Image.new("L", (WIDTH, HEIGHT))
    for number, part in enumerate(parts):
        row, column = divmod(number, COLUMNS)
        right, down = rng.integers(-jitter, jitter + 1, 2)
        left = round((column + 0.5) * WIDTH / COLUMNS - part.width / 2) + int(right)
        top = round((row + 0.5) * HEIGHT / ROWS - part.height / 2) + int(down)
        canvas.paste(part, (left, top))
        if mask is not None and number == place:
            whole_mask.paste(mask, (left, top))
    return Tray(name, canvas, np.asarray(whole_mask) > 0)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    left, top = int(columns.min()), int(rows.min())
    return left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top


if __name__ == "__main__":
    main()
