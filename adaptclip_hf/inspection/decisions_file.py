"""Decisions of a review (`decisions.json`, which the desk of a report exports): photos that an inspector judged."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..validation import FileContent, Moment
from .history import SHORT, Digest, Review, Text, shown_time

if TYPE_CHECKING:
    from .profile import InspectionProfile

GOOD_PART, DEFECTIVE = "good part", "defect"
REMEDY = "Export the decisions again, from a report of `adaptclip report`."


class DecisionContent(FileContent):
    """What an inspector said of a photo.

    Attributes:
        path: of the photo; relative to the file's folder, or to where the command runs.
        chosen: how the photo came to be reviewed.
    """

    path: Text
    verdict: Literal["good part", "defect"]
    reviewer: Text | None
    time: Moment
    chosen: Literal["worst-first", "random-normal"]


class DecisionsContent(FileContent):
    """The content of a file of decisions.

    Attributes:
        profile: the digest of the profile whose results were reviewed; `None` without one.
    """

    format: Literal["adaptclip-decisions"]
    version: Literal[1]
    profile: Digest | None
    decisions: list[DecisionContent]


@dataclass
class Decisions:
    """Photos that were judged, each once.

    Attributes:
        confirmed, defects: paths of good parts, and of defects.
        reviews: who judged each, by its path.
        gone: paths of photos that are not there any more.
    """

    confirmed: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)
    reviews: dict[str, Review] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> tuple["Decisions", str | None]:
        """The decisions of a file, and the digest of the profile that they are about.

        Of several decisions on one photo the latest counts.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no file of decisions, or damaged; names the file and the field.
        """
        content = DecisionsContent.read(file, REMEDY)
        decisions, latest = cls(), {}
        for each in sorted(content.decisions, key=lambda each: datetime.fromisoformat(each.time)):
            path = found_at(each.path, file.parent)
            latest[place_of(path)] = path, each
        for path, each in latest.values():
            if not os.path.isfile(path):  # noqa: PTH113
                decisions.gone.append(each.path)
                continue
            (decisions.confirmed if each.verdict == GOOD_PART else decisions.defects).append(path)
            decisions.reviews[path] = Review(each.reviewer, each.time)
        return decisions, content.profile


def found_at(path: str, folder: Path) -> str:
    """Where a photo lies that a file in a folder names."""
    beside = os.path.normpath(folder / path)
    return beside if os.path.isfile(beside) else path  # noqa: PTH113


def place_of(path: str) -> str:
    """The same text however a photo is named; a path that no file can have stays as it is."""
    try:
        return os.path.realpath(path)
    except ValueError:
        return path


def require_own(profile: "InspectionProfile", digest: str | None, file: Path, report: Callable[[str], None]):
    """Refuses decisions on the results of another profile; of an earlier state of this one it says so.

    Args:
        digest: of the profile that the decisions are about.

    Raises:
        ValueError: says what to do.
    """
    if digest in (None, profile.digest()):
        return
    for change in reversed(profile.history):
        if change.before == digest:
            report(f"{file}: its decisions are of this profile before {shown_time(change.time)}, when it was changed")
            return
    raise ValueError(
        f"{file}: profile: its decisions are on results of another profile ({str(digest)[:SHORT]}, this one is "
        f"{profile.digest()[:SHORT]}). Name that profile with --update; or review results of this one; or, where the "
        "photos show this product, give them yourself with --confirmed and --defects."
    )
