"""Draws two pictures of docs/gallery.md: outlined regions, and the examples of an evaluation.

    python examples/draw_gallery.py

docs/report.jpg and docs/report_phone.jpg are screenshots of the report of the first tutorial, and docs/demo.jpg one of `adaptclip demo`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector, InspectionProfile
from adaptclip_hf.evaluation.evaluate import evaluate
from adaptclip_hf.synthetic import make_category, write_dataset

EXAMPLES = Path(__file__).resolve().parent
DOCS = EXAMPLES.parent / "docs"
SHOWN = ("000_good", "012_crack", "013_hole", "014_scratch", "016_foreign_body", "015_stain")
SIDE = 240


def draw_regions(detector: AnomalyDetector, folder: Path):
    subprocess.run([sys.executable, EXAMPLES / "make_line.py", folder], check=True)
    good = sorted(map(str, (folder / "good").iterdir()))
    profile = InspectionProfile.fit(detector, good, false_alarm_rate=0.05, verdict=False)
    sheet = Image.new("RGB", (SIDE * len(SHOWN), SIDE), "white")
    for column, name in enumerate(SHOWN):
        photo = folder / "monday" / f"{name}.jpg"
        [result] = detector.detect(str(photo), profile=profile)
        image = Image.open(photo).convert("RGB")
        draw = ImageDraw.Draw(image)
        for region in result.regions:
            points = [tuple(point) for point in region["polygon"]]
            draw.line([*points, points[0]], fill=(255, 0, 255), width=4, joint="curve")
        sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (column * SIDE, 0))
        print(f"{name:20} {result.label:10} p = {result.p_value:.3f}")
    sheet.save(DOCS / "gallery_regions.jpg", quality=82)


def draw_evaluation(detector: AnomalyDetector, folder: Path):
    category = {"metal_ring": make_category(2_000_009, "metal ring")}
    data = write_dataset(folder / "data", category, size=336, train=6, good=10, bad=10)
    evaluate(detector, [str(data)], folder / "results", [4], [10], progress=False)
    [sheet] = (folder / "results" / "plots").rglob("*_examples.jpg")
    Image.open(sheet).convert("RGB").save(DOCS / "gallery_examples.jpg", quality=82)


def main():
    detector = AnomalyDetector.from_pretrained(DEFAULT_MODEL)
    with tempfile.TemporaryDirectory() as folder:
        draw_regions(detector, Path(folder) / "line")
        draw_evaluation(detector, Path(folder))


if __name__ == "__main__":
    main()
