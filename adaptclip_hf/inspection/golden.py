"""Golden photos: parts whose label is known, on which a profile is checked again after each change."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..data.words import is_of_masks, label_of_name
from ..engine import AnomalyScorer, Result, UnreadableImage
from ..engine.reference import times_the_threshold
from ..files import NoLocksError, parse_json, write_whole
from ..image_files import find_images
from ..listings import open_rows
from ..passed_over import PassedOver
from ..reporting import Report, print_nothing, printable
from ..validation import FileContent, Moment
from .calibration import counted
from .history import Digest, Text, now, shown_time
from .parts import WORST_FIRST
from .profile import InspectionProfile
from .profile_files import saving

CHECKS_FILE = "checks.jsonl"  # in a profile's folder, a line a check
Expected = Literal["normal", "anomalous"]
LABELS: tuple[Expected, Expected] = ("normal", "anomalous")


class CheckedPhoto(FileContent):
    """What a profile said of a golden photo.

    Attributes:
        name: its path below the golden folder, or as the list has it.
        label: of its part, where the profile decides part by part; `None` where it could not be read, or is one of the
            profile's own.
        score, margin: of the photo; with parts of that photo of its part which decides.
    """

    name: Text
    expected: Expected
    label: Text | None
    score: float | None = None
    margin: float | None = None

    @property
    def is_right(self) -> bool:
        return self.label == self.expected

    @property
    def shown(self) -> str:
        """The decision, and how far the score is from the threshold."""
        return f"{self.label or 'not decided'}{f' ({times_the_threshold(self.margin)})' if self.margin else ''}"


class Check(FileContent):
    """One check of a profile.

    Attributes:
        golden: the absolute path of the folder or list.
        profile: the profile's digest.
    """

    time: Moment
    by: Text | None
    golden: Text
    profile: Digest
    photos: list[CheckedPhoto]

    def describe(self, digest: str) -> str:
        """A line for people.

        Args:
            digest: of the profile as it is now.
        """
        right, count = sum(photo.is_right for photo in self.photos), len(self.photos)
        since = "" if digest == self.profile else "; the profile was changed since: check it again"
        return (
            f"last check: {shown_time(self.time)}, {counted(count, 'golden photos')}: {right} as expected "
            f"({printable(self.golden)}){since}"
        )


@dataclass
class Golden:
    """Photos whose labels are known: of a folder whose subfolders say good or bad, or of a list (CSV) with the columns
    `path` and `label`.

    Attributes:
        place: the folder or list.
        labels: {path: (name, expected label)}.

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: a photo without a label, or no photo; names it and what was expected.
    """

    place: Path
    labels: dict[str, tuple[str, Expected]] = field(init=False)

    def __post_init__(self):
        if not self.place.exists():
            raise FileNotFoundError(f"No golden photos at {self.place}: there is no such folder or list.")
        found = self._of_folder() if self.place.is_dir() else self._of_list()
        self.labels = {path: (name, LABELS[label]) for path, name, label in found}
        if not self.labels:
            raise ValueError(f"{self.place} holds no golden photo.")

    def _of_folder(self) -> Iterator[tuple[str, str, int]]:
        for file in find_images([self.place], passed_over=PassedOver()):
            above = [self.place.absolute().name, *file.relative_to(self.place).parts[:-1]]
            if any(map(is_of_masks, above[1:])):
                continue
            label = next((each for each in map(label_of_name, reversed(above)) if each is not None), None)
            if label is None:
                raise ValueError(
                    f"{file}: no folder above it says good or bad: put golden photos into folders such as "
                    "good/ and bad/, or name a list (.csv) with the columns path and label."
                )
            yield str(file), file.relative_to(self.place).as_posix(), label

    def _of_list(self) -> Iterator[tuple[str, str, int]]:
        for where, row in open_rows(self.place, ["path", "label"]):
            label = label_of_name(row["label"]) if row["label"].strip() else None
            if label is None or not row["path"].strip():
                raise ValueError(
                    f"{where}: expected a path and a label such as good or bad, got {row['path'][:80]!r} and "
                    f"{row['label'][:40]!r}."
                )
            yield str(self.place.parent / row["path"]), row["path"], label

    def check(
        self,
        detector: AnomalyScorer,
        profile: InspectionProfile,
        results_of: Callable[[list[str]], Iterable[Result]],
        by: str | None,
        report: Report = print_nothing,
    ) -> Check:
        """Decides all photos.

        Args:
            results_of: scores the photos of some paths by the profile, each in its place.
            report: called with a line for each that proves nothing: it cannot be read, or is one of the profile's own.
        """
        profile.require_match(detector)
        photos = []
        for result, (name, expected) in zip(results_of(list(self.labels)), self.labels.values(), strict=True):
            if isinstance(result, UnreadableImage):
                photos.append(CheckedPhoto(name=name, expected=expected, label=None))
                continue
            own = result.among_normals
            if own:
                report(f"{name} is one of the profile's own photos, so that it proves nothing: take another one")
            label = None if own else result.label
            photos.append(
                CheckedPhoto(name=name, expected=expected, label=label, score=result.score, margin=result.margin)
            )
        if profile.usual_part is not None:
            photos = by_parts(photos, [profile.usual_part.part_of(path) for path in self.labels])
        place = str(self.place.absolute())
        return Check(time=now(), by=by, golden=place, profile=profile.digest(), photos=photos)


def by_parts(photos: list[CheckedPhoto], parts: list[str | None]) -> list[CheckedPhoto]:
    """Photos with the decisions on their parts: a defect need not be seen from each side.

    Args:
        parts: of each photo, the name; `None` for one that belongs to none.
    """
    decided: dict[str | None, list[CheckedPhoto]] = {}
    for photo, part in zip(photos, parts, strict=True):
        if part is not None and photo.label is not None:
            decided.setdefault(part, []).append(photo)
    worst = {
        part: max(some, key=lambda photo: (-WORST_FIRST.index(photo.label), photo.score))
        for part, some in decided.items()
    }

    def told(photo: CheckedPhoto, part: str | None) -> CheckedPhoto:
        if photo.label is None or part not in worst:
            return photo
        return photo.model_copy(update={name: getattr(worst[part], name) for name in ("label", "score", "margin")})

    return [told(photo, part) for photo, part in zip(photos, parts, strict=True)]


def differences(check: Check, before: Check | None) -> tuple[list[str], list[str]]:
    """Lines about photos whose decision is not the one that is expected, and about decisions that are not those of an
    earlier check of the same photos."""
    earlier = {} if before is None else {photo.name: photo for photo in before.photos}
    wrong, changed = [], []
    for photo in check.photos:
        was = earlier.pop(photo.name, None)
        moved = was is not None and was.label != photo.label
        if not photo.is_right:
            told = f"; {was.shown} in the last check" if was is not None and moved else ""
            wrong.append(f"{printable(photo.name)}: {photo.shown}, expected {photo.expected}{told}")
        elif was is not None and moved:
            changed.append(f"{printable(photo.name)}: {photo.shown}, as expected; {was.shown} in the last check")
    wrong += [f"{printable(name)}: it is gone, and was there in the last check" for name in earlier]
    return wrong, changed


def nearest(check: Check, before: Check | None) -> str | None:
    """Which photos of each label come nearest to the threshold, a line for people; `None` without any."""
    earlier = {} if before is None else {photo.name: photo.margin for photo in before.photos}
    told = []
    for kind, expected, worst in (("good part", LABELS[0], max), ("defect", LABELS[1], min)):
        some = [(photo.margin, photo.name) for photo in check.photos if photo.expected == expected and photo.label]
        decided = [(margin, name) for margin, name in some if margin is not None]
        if decided:
            margin, name = worst(decided)
            was = earlier.get(name)
            moved = f" ({was:.2f} in the last check)" if was is not None and f"{was:.2f}" != f"{margin:.2f}" else ""
            told.append(f"the {kind} {printable(name)} at {margin:.2f} times it{moved}")
    return f"nearest to the threshold: {', '.join(told)}" if told else None


def checks_of(folder: Path) -> list[Check]:
    """The checks that a profile's folder records, the oldest first.

    Raises:
        ValueError: a line is damaged; names file and line.
    """
    file = folder / CHECKS_FILE
    checks = []
    for number, text in enumerate(file.read_bytes().splitlines(keepends=True) if file.is_file() else (), start=1):
        if text.endswith(b"\n"):
            try:
                checks.append(Check.of(parse_json(text)))
            except ValueError as error:
                raise ValueError(f"{file}, line {number}, is no check ({error}): remove the line.") from error
    return checks


def last_check(folder: Path, golden: Path | None = None) -> Check | None:
    """The last check that a profile's folder records, of some golden photos or of any."""
    place = None if golden is None else str(golden.absolute())
    return next((each for each in reversed(checks_of(folder)) if place in (None, each.golden)), None)


def record(folder: Path, check: Check):
    """Adds a check to those of a profile's folder.

    Raises:
        OSError: the folder cannot be written.
        ValueError: what it records is damaged.
    """
    with ExitStack() as stack:
        with suppress(NoLocksError):
            stack.enter_context(saving(folder))
        lines = [json.dumps(each.model_dump()) + "\n" for each in (*checks_of(folder), check)]
        write_whole(folder / CHECKS_FILE, "".join(lines).encode())
