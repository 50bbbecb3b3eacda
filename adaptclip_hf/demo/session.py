"""The state of the page: fit, decide, move the threshold, save and load."""

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from ..detector import AnomalyDetector
from ..engine import DetectionResult, Result, View
from ..image_files import reason_against_file
from ..inspection import Calibration, InspectionProfile
from ..inspection.acceptance import Acceptance
from ..inspection.history import Review
from ..inspection.profile_files import EARLIER, is_profile_file
from ..modeling.checksums import CHECKSUMS_FILE
from ..passed_over import PassedOver
from ..synthetic import make_category, render_sample

# procedural products of categories that no stage of adaptclip-tiny's training has seen: seed, name, defects
EXAMPLES = {
    "ring": (2_000_009, "metal ring", ("crack", "foreign body", "hole")),
    "leather": (2_000_004, "leather", ("scratch", "hole", "crack")),
    "board": (2_000_002, "circuit board", ("hole", "stain", "scratch")),
}
EXAMPLE_SIZE, EXAMPLE_NORMALS, EXAMPLE_GOOD = 240, 20, 2
LARGEST_PROFILE, MOST_FILES = 500_000_000, 3  # bytes, unpacked; files
GOOD_PART, DEFECTIVE = "good part", "defect"  # what an inspector says of a photo


@dataclass(frozen=True)
class Session:
    """What a page holds: a profile, and the photos that were inspected.

    Attributes:
        profile: `None` before one is made or loaded; photos are then scored zero-shot.
        results: of the inspected photos, with their images.
        left_out: why good photos were left out, a line each.
        good: the photos that the profile was made of here; those that a loaded one names are none of the page's files.
    """

    profile: InspectionProfile | None = None
    results: tuple[Result, ...] = field(default=(), repr=False)
    left_out: tuple[str, ...] = ()
    good: frozenset[str] = field(default=frozenset(), repr=False)

    def fit(
        self,
        detector: AnomalyDetector,
        files: Sequence[str] | None,
        false_alarm_rate: float,
        view: View = View(),
        acceptance: Acceptance | None = None,
    ) -> "Session":
        """Makes a profile of photos of good parts and drops earlier results; unreadable photos are left out.

        Raises:
            ValueError: too few photos for the rate, or none; nothing to look at; or a zone outside a photo.
        """
        photos, passed_over = photos_among(files)
        if not photos:
            raise ValueError(f"Add photos of good parts first. {passed_over}".strip())
        left_out = [passed_over] if passed_over else []

        def leave_out(name: str, error: Exception):
            left_out.append(without_folder(name, str(error)))

        profile = InspectionProfile.fit(
            detector, photos, false_alarm_rate, on_error=leave_out, view=view, acceptance=acceptance, progress=True
        )
        return Session(profile, left_out=tuple(left_out), good=frozenset(photos))

    def inspect(self, detector: AnomalyDetector, files: Sequence[str] | None) -> "Session":
        """Inspects photos, which replace the earlier ones; what is no photo is passed over.

        Raises:
            ValueError: there are none.
        """
        photos, passed_over = photos_among(files)
        if not photos:
            raise ValueError(f"Add photos to inspect first. {passed_over}".strip())
        return replace(self, results=self._inspected(detector, photos))

    def _inspected(self, detector: AnomalyDetector, photos: Sequence[str]) -> tuple[Result, ...]:
        results = detector.stream(photos, profile=self.profile, on_error=lambda name, error: None)
        return tuple(tqdm(results, desc="inspected", unit="photo", total=len(photos)))

    @property
    def by_name(self) -> dict[str, Result]:
        """The results by the names that people know photos by; of one name the second is called `part.png (2)`."""
        found: dict[str, Result] = {}
        for result in self.results:
            name = shown = Path(result.name).name
            number = 1
            while shown in found:
                number += 1
                shown = f"{name} ({number})"
            found[shown] = result
        return found

    def update(
        self, detector: AnomalyDetector, verdicts: Mapping[str, str], reviews: Mapping[str, Review] | None = None
    ) -> "Session":
        """Takes what an inspector said into the profile, and decides all photos again by the new one.

        Good parts join the bank as confirmed, defects tell how many escape.

        Args:
            verdicts: {name of an inspected photo: "good part" or "defect"}.
            reviews: {name: who said so and when}, for the profile's history.

        Raises:
            ValueError: there is no profile, no verdict, or a photo that was not inspected.
        """
        profile, photos = self._made_profile(), self.by_name
        if not verdicts:
            raise ValueError("Say of some photos first what they show: a good part or a defect.")
        if unknown := verdicts.keys() - photos.keys():
            raise ValueError(f"{min(unknown)} is not among the inspected photos.")
        good, defects = (
            [photos[name].name for name, said in verdicts.items() if said == verdict]
            for verdict in (GOOD_PART, DEFECTIVE)
        )
        told = {photos[name].name: review for name, review in (reviews or {}).items()}
        updated = profile.update(detector, confirmed=good, defects=defects, reviews=told, progress=True)
        made = replace(self, profile=updated, good=self.good | set(good))
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
    found = [(re.split(r"[\\/]", each.filename), each) for each in packed.infolist() if not each.is_dir()]
    current = [(path[-1], each) for path, each in found if EARLIER not in path[:-1]]
    wanted = [(name, each) for name, each in current if is_profile_file(name) or name == CHECKSUMS_FILE]
    members = dict(wanted)
    if len(members) < len(wanted) or len(members) > MOST_FILES:
        raise ValueError("it holds more than one profile")
    if sum(each.file_size for each in members.values()) > LARGEST_PROFILE:
        raise ValueError("it holds more than a profile")
    return members


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
