"""The state of the page: fit, decide, move the threshold, save and load."""

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, ImageDraw

from ..detector import AnomalyDetector
from ..engine import DetectionResult, Result
from ..engine.heatmap import render_heatmap
from ..inspection import Calibration, InspectionProfile
from ..inspection.profile_files import EARLIER, is_profile_file
from ..labels import ANOMALOUS, NORMAL, NOT_INSPECTABLE
from ..modeling.checksums import CHECKSUMS_FILE
from ..report.histogram_drawing import HistogramDrawing
from ..synthetic import make_category, render_sample

# procedural products of categories that no stage of adaptclip-tiny's training has seen: seed, name, defects
EXAMPLES = {
    "ring": (2_000_009, "metal ring", ("crack", "foreign body", "hole")),
    "leather": (2_000_004, "leather", ("scratch", "hole", "crack")),
    "board": (2_000_002, "circuit board", ("hole", "stain", "scratch")),
}
EXAMPLE_SIZE, EXAMPLE_NORMALS, EXAMPLE_GOOD = 240, 20, 2
LARGEST_PROFILE, MOST_FILES = 500_000_000, 3  # bytes, unpacked; files
OUTLINE = 3  # pixels at least


@dataclass(frozen=True)
class Session:
    """What a page holds: a profile, and the photos that were inspected.

    Attributes:
        profile: `None` before one is made or loaded; photos are then scored zero-shot.
        results: of the inspected photos, with their images.
        left_out: names of good photos that could not be read.
    """

    profile: InspectionProfile | None = None
    results: tuple[Result, ...] = field(default=(), repr=False)
    left_out: tuple[str, ...] = ()

    def fit(self, detector: AnomalyDetector, photos: Sequence[str], false_alarm_rate: float) -> "Session":
        """Makes a profile of photos of good parts and drops earlier results; unreadable photos are left out.

        Raises:
            ValueError: too few photos for the rate, or none.
        """
        if not photos:
            raise ValueError("Add photos of good parts first.")
        left_out: list[str] = []
        profile = InspectionProfile.fit(
            detector, photos, false_alarm_rate, on_error=lambda name, error: left_out.append(Path(name).name)
        )
        return Session(profile, left_out=tuple(left_out))

    def inspect(self, detector: AnomalyDetector, photos: Sequence[str]) -> "Session":
        """Inspects photos, which replace the earlier ones.

        Raises:
            ValueError: there are none.
        """
        if not photos:
            raise ValueError("Add photos to inspect first.")
        results = detector.stream(photos, profile=self.profile, on_error=lambda name, error: None)
        return replace(self, results=tuple(results))

    def with_threshold(self, threshold: float) -> "Session":
        """Decides the same photos by another threshold, and keeps it in the profile.

        Raises:
            ValueError: there is no profile, or the threshold is no number from 0 to 1.
        """
        profile = self._made_profile()
        if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
            raise ValueError(f"The threshold must be a number from 0 to 1, as scores are; got {threshold}.")
        profile = replace(profile, calibration=Calibration(profile.calibration.scores, threshold))
        results = (profile.decide(each) if isinstance(each, DetectionResult) else each for each in self.results)
        return replace(self, profile=profile, results=tuple(results))

    def save(self, folder: Path) -> Path:
        """The profile as a ZIP file that unpacks to the folder which `adaptclip detect --profile` takes."""
        file = folder / "profile.zip"
        with tempfile.TemporaryDirectory() as unpacked, zipfile.ZipFile(file, "w") as packed:
            for each in sorted(self._made_profile().save_pretrained(Path(unpacked) / "profile").iterdir()):
                packed.write(each, f"profile/{each.name}")
        return file

    @classmethod
    def load(cls, detector: AnomalyDetector, file: str | Path) -> "Session":
        """A profile from a ZIP file.

        Raises:
            ValueError: the file holds no profile of this model, or is too large.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                unpack_profile(Path(file), Path(folder))
                profile = InspectionProfile.from_pretrained(folder)
                profile.describe()
                profile.require_match(detector)
            except MemoryError:
                raise
            except Exception as error:  # each decoder of a damaged archive raises errors of its own
                said = " ".join(str(error).replace(f"{folder}{os.sep}", "").replace(folder, "the archive").split())
                said = said or type(error).__name__
                raise ValueError(f"{Path(file).name} is not a profile that this page has saved ({said}).") from error
        return cls(profile)

    def _made_profile(self) -> InspectionProfile:
        if self.profile is None:
            raise ValueError("There is no profile yet: add photos of good parts first.")
        return self.profile

    def histogram(self) -> str:
        """The scores as a drawing, in HTML; empty before there are any."""
        groups: dict[str, list[float]] = {NORMAL: [], ANOMALOUS: [], NOT_INSPECTABLE: [], "scored": []}
        for result in self.results:
            if isinstance(result, DetectionResult):
                groups[result.label or "scored"].append(result.score)
        groups = {name: scores for name, scores in groups.items() if scores}
        calibration = None if self.profile is None else self.profile.calibration
        if not groups and calibration is None:
            return ""
        good, threshold = (None, None) if calibration is None else (calibration.scores.tolist(), calibration.threshold)
        return str(HistogramDrawing.of(groups, good, threshold).html())

    def ranked(self) -> list[Result]:
        """The results, the highest scores first, those without a score at the end."""
        return sorted(self.results, key=lambda result: -1.0 if result.score is None else result.score, reverse=True)


def unpack_profile(file: Path, folder: Path):
    """Writes the files of a profile in an archive into a folder."""
    with zipfile.ZipFile(file) as packed:
        for name, member in profile_members(packed).items():
            with packed.open(member) as content, (folder / name).open("wb") as opened:
                shutil.copyfileobj(content, opened)


def profile_members(packed: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of a profile in an archive, in whatever folder they lie there; by their names alone.

    Windows' PowerShell writes backslashes between folders.

    Raises:
        ValueError: it holds more than one profile, or a larger one than the page takes.
    """
    found = [(re.split(r"[\\/]", each.filename), each) for each in packed.infolist() if not each.is_dir()]
    current = [(path[-1], each) for path, each in found if EARLIER not in path[:-1]]
    wanted = [(name, each) for name, each in current if is_profile_file(name) or name == CHECKSUMS_FILE]
    members = dict(wanted)
    if len(members) < len(wanted) or len(members) > MOST_FILES:
        raise ValueError("it holds more than one profile")
    if sum(each.file_size for each in members.values()) > LARGEST_PROFILE:
        raise ValueError("it holds more than a profile")
    return members


def overlay_of(result: DetectionResult) -> Image.Image:
    """The photo under its map, regions outlined."""
    overlay = result.heatmap()
    draw, width = ImageDraw.Draw(overlay), max(OUTLINE, max(overlay.size) // 200)
    for region in result.regions or []:
        points = [tuple(point) for point in region["polygon"]]
        draw.line([*points, points[0]], fill="white", width=width, joint="curve")
    return overlay


def map_of(result: DetectionResult) -> Image.Image:
    """The map alone, in the same colours over grey."""
    anomaly_map = result.drawn_map
    return render_heatmap(Image.new("RGB", anomaly_map.shape[::-1], (235, 235, 235)), anomaly_map, result.colours)


def make_example(name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Good photos of an example product, and photos to inspect, rendered into a folder."""
    seed, kind, defects = EXAMPLES[name]
    category = make_category(seed, kind)

    def render(stem: str, index: int, defect: str | bool = False) -> str:
        image, _, _ = render_sample(category, index, EXAMPLE_SIZE, defect)
        file = folder / f"{name}_{stem}.png"
        Image.fromarray(image).save(file)
        return str(file)

    good = [render(f"good_{index}", index) for index in range(EXAMPLE_NORMALS + EXAMPLE_GOOD)]
    bad = [render(defect.replace(" ", "_"), 1000 + index, defect) for index, defect in enumerate(defects)]
    return good[:EXAMPLE_NORMALS], good[EXAMPLE_NORMALS:] + bad
