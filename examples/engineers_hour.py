"""A quality engineer's first hour, and her next day, as commands: from photos of good parts to a report.

    python examples/engineers_hour.py --output hour
    python examples/engineers_hour.py --good good/ --days monday/ tuesday/ --output hour    # with your own photos

Without your own photos it renders some of an invented product. Each command is printed before it runs.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw
from tqdm import tqdm

from adaptclip_hf.synthetic import make_category, render_sample

PRODUCT, SIDE = (11, "brushed metal"), 336
DEFECTS = ("scratch", "hole", "crack", "foreign body")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--good", type=Path, help="photos of good parts")
    parser.add_argument("--days", type=Path, nargs=2, help="photos of two days")
    parser.add_argument("--photos", type=int, default=40, help="number of good photos, if they are rendered")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    good, days = args.good, args.days
    if good is None or days is None:
        good, days = render(args.output / "photos", args.photos)
    profile, reports = args.output / "profile", [args.output / name for name in ("first-day", "next-day")]

    # the first hour: a profile, the first day's photos, a report
    adaptclip("fit", "--normal", good, "--false-alarm-rate", "5%", "--output", profile)
    adaptclip("detect", days[0], "--profile", profile, "--output", reports[0])
    adaptclip("report", reports[0])

    # in the report she sees that the part with a chalk mark is good, and confirms it
    for alarm in false_alarms(reports[0]):
        adaptclip("fit", "--update", profile, "--confirmed", alarm)

    # the next day; in a factory use --watch, which scores photos as they appear
    adaptclip("detect", days[1], "--profile", profile, "--output", reports[1], "--format", "coco")
    adaptclip("report", reports[1])


def adaptclip(*words):
    """Runs a command as in a terminal."""
    print("\n$ adaptclip " + shlex.join(map(str, words)), flush=True)
    subprocess.run([sys.executable, "-m", "adaptclip_hf.cli", *map(str, words)], check=True)


def false_alarms(results: Path) -> list[str]:
    """Images that were called anomalous and whose names say that they are good; the names stand for her judgement."""
    lines = [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]
    return [line["path"] for line in lines if line["label"] == "anomalous" and "good" in Path(line["path"]).stem]


def render(folder: Path, count: int) -> tuple[Path, list[Path]]:
    """So many photos of good parts, and two days of twenty, every fourth one with a defect, and one with chalk."""
    category = make_category(*PRODUCT)
    good, days = folder / "good", [folder / name for name in ("monday", "tuesday")]
    with tqdm(total=count + 42, desc="rendering photos") as bar:

        def save(place: Path, name: str, seed: int, defect: str | bool, chalk: bool = False):
            place.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(render_sample(category, seed, SIDE, defect=defect)[0])
            if chalk:
                x, y = 60 + seed % 7 * 20, 80
                ImageDraw.Draw(image).line([(x, y), (x + 25, y + 30), (x + 70, y - 30)], fill=(245, 245, 235), width=7)
            image.save(place / f"{name}.jpg", quality=92)
            bar.update()

        for index in range(count):
            save(good, f"{index:03}", index, False)
        for number, day in enumerate(days):
            for index in range(20):
                kind = DEFECTS[index // 4 % len(DEFECTS)] if index % 4 == 3 else False
                save(day, f"{index:03}_{kind or 'good'}".replace(" ", "_"), 1000 * (number + 1) + index, kind)
            save(day, "020_good_with_chalk", 1000 * (number + 1) + 20, False, chalk=True)
    return good, days


if __name__ == "__main__":
    main()
