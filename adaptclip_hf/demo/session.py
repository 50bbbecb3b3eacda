"""The state of the page: fit, decide, move the threshold, save and load."""

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from ..detector import AnomalyDetector
from ..engine import DetectionResult, Result, View
from ..engine.heatmap import render_heatmap
from ..image_files import reason_against_file
from ..inspection import Calibration, InspectionProfile
from ..inspection.profile_files import is_profile_file
from ..modeling.checksums import CHECKSUMS_FILE
from ..passed_over import PassedOver
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
GOOD_PART, DEFECT_SEEN = "good part", "defect"  # what an inspector says of a photo


@dataclass(frozen=True)
class Session:
    """What a page holds: a profile, and the photos that were inspected.

    Attributes:
        profile: `None` before one is made or loaded; photos are then scored zero-shot.
        results: of the inspected photos, with their images.
        left_out: why good photos were left out, a line each.
        decisions: what was said of inspected photos: {path: "good part" or "defect"}, not yet in the profile.
    """

    profile: InspectionProfile | None = None
    results: tuple[Result, ...] = field(default=(), repr=False)
    left_out: tuple[str, ...] = ()
    decisions: Mapping[str, str] = field(default_factory=dict)

    def fit(
        self, detector: AnomalyDetector, files: Sequence[str] | None, false_alarm_rate: float, view: View = View()
    ) -> "Session":
        """Makes a profile of photos of good parts and drops earlier results; unreadable photos are left out.

        Raises:
            ValueError: too few photos for the rate, or none; or nothing to look at.
        """
        photos, passed_over = photos_among(files)
        if not photos:
            raise ValueError(f"Add photos of good parts first. {passed_over}".strip())
        left_out = [passed_over] if passed_over else []

        def leave_out(name: str, error: Exception):
            left_out.append(without_folder(name, str(error)))

        profile = InspectionProfile.fit(
            detector, photos, false_alarm_rate, on_error=leave_out, view=view, progress=True
        )
        return Session(profile, left_out=tuple(left_out))

    def inspect(self, detector: AnomalyDetector, files: Sequence[str] | None) -> "Session":
        """Inspects photos, which replace the earlier ones; what is no photo is passed over.

        Raises:
            ValueError: there are none.
        """
        photos, passed_over = photos_among(files)
        if not photos:
            raise ValueError(f"Add photos to inspect first. {passed_over}".strip())
        return replace(self, results=self._inspected(detector, photos), decisions={})

    def _inspected(self, detector: AnomalyDetector, photos: Sequence[str]) -> tuple[Result, ...]:
        results = detector.stream(photos, profile=self.profile, on_error=lambda name, error: None)
        return tuple(tqdm(results, desc="inspected", unit="photo", total=len(photos)))

    def decided(self, verdicts: Mapping[str, str | None]) -> "Session":
        """With what an inspector says of photos: "good part", "defect", or `None` to take it back.

        Raises:
            ValueError: another word, or a photo that was not inspected.
        """
        inspected = {result.name for result in self.results if result.error is None}
        for name, verdict in verdicts.items():
            if name not in inspected or verdict not in (GOOD_PART, DEFECT_SEEN, None):
                raise ValueError(f"Expected {GOOD_PART!r} or {DEFECT_SEEN!r} for an inspected photo, got {verdict!r}.")
        said = {**self.decisions, **verdicts}
        return replace(self, decisions={name: verdict for name, verdict in said.items() if verdict is not None})

    def update(self, detector: AnomalyDetector) -> "Session":
        """Takes the decisions into the profile, and decides all photos again by the new one.

        Good parts join the bank as confirmed, defects tell how many escape.

        Raises:
            ValueError: there is no profile, or no decision.
        """
        profile = self._made_profile()
        if not self.decisions:
            raise ValueError("Say of some photos first what they show: a good part or a defect.")
        good, defects = (
            [name for name, said in self.decisions.items() if said == verdict] for verdict in (GOOD_PART, DEFECT_SEEN)
        )
        updated = profile.update(detector, confirmed=good, defects=defects, progress=True)
        made = replace(self, profile=updated, decisions={})
        return replace(made, results=made._inspected(detector, [result.name for result in self.results]))

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
        groups: dict[str, list[float]] = {"normal": [], "anomalous": [], "scored": []}
        for result in self.results:
            if isinstance(result, DetectionResult):
                groups.setdefault(result.label or "scored", []).append(result.score)
        groups = {name: scores for name, scores in groups.items() if scores}
        calibration = None if self.profile is None else self.profile.calibration
        if not groups and calibration is None:
            return ""
        good, threshold = (None, None) if calibration is None else (calibration.scores.tolist(), calibration.threshold)
        return str(HistogramDrawing.of(groups, good, threshold).html())

    def ranked(self) -> list[Result]:
        """The results, the highest scores first, those without a score at the end."""
        return sorted(self.results, key=lambda result: -1.0 if result.score is None else result.score, reverse=True)


def photos_among(files: Sequence[str] | None) -> tuple[list[str], str]:
    """Those of some files whose names are of photos, and a line about the others, empty without any."""
    photos, lines = [], list[str]()
    passed_over = PassedOver(lines.append)
    for file in files or ():
        if reason := reason_against_file(Path(file).name):
            passed_over(Path(file).name, reason)
        else:
            photos.append(file)
    passed_over.tell()
    return photos, "; ".join(lines)


def without_folder(name: str, text: str) -> str:
    """What is said of a file, without the folder that the page keeps it in."""
    return text.replace(str(Path(name).parent) + os.sep, "")


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
    found = [(re.split(r"[\\/]", each.filename)[-1], each) for each in packed.infolist() if not each.is_dir()]
    wanted = [(name, each) for name, each in found if is_profile_file(name) or name == CHECKSUMS_FILE]
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
    return render_heatmap(Image.new("RGB", anomaly_map.shape[::-1], (235, 235, 235)), anomaly_map)


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
