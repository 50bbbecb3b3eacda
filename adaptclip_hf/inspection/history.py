"""What was done to a profile: by whom, when, and with which photos."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, InstanceOf

from ..reporting import printable
from ..validation import FileContent, Moment
from .photos import CONFIRMED, DEFECT, GOOD, ProfilePhoto

FITTED, UPDATED, WENT_BACK = "fitted", "updated", "went back"
WORDS = {  # of one photo, of more
    GOOD: ("good photo added", "good photos added"),
    CONFIRMED: ("confirmed as good", "confirmed as good"),
    DEFECT: ("known defect added", "known defects added"),
    "dropped": ("dropped", "dropped"),
}
NAMED = 3  # photos of a kind that a line names
SHORT = 12  # characters of a digest that people are shown


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Role = Literal["good", "confirmed", "defect", "dropped"]
Text = InstanceOf[str]  # also with surrogates, where a name is in no encoding


class Review(NamedTuple):
    """Who looked at a photo, and when."""

    reviewer: str | None
    time: str


class ChangedPhoto(FileContent):
    """A photo that was added or dropped.

    Attributes:
        role: what it was added as, or "dropped".
        reviewer, reviewed: who judged it and when, where decisions of a review brought it.
    """

    name: Text
    role: Role
    reviewer: Text | None = None
    reviewed: Moment | None = None


class Change(FileContent):
    """One change of a profile.

    Attributes:
        time: ISO 8601, UTC.
        by: who made it, as they were named.
        before, after: the profile's digests; there is none before a new one.
        threshold: after it.
        photos: that were added or dropped; those of a new profile are its own, and not repeated.
        settings: what was chosen anew, such as `false_alarm_rate 0.05 -> 0.1`.
    """

    time: Moment
    by: Text | None
    what: Literal["fitted", "updated", "went back"]
    before: Digest | None
    after: Digest
    threshold: float
    photos: list[ChangedPhoto] = []
    settings: list[Text] = []

    def describe(self, earlier: "Change | None" = None) -> str:
        """A line for people.

        Args:
            earlier: the change before it.
        """
        parts = [", ".join(filter(None, (self._photos(role) for role in WORDS))), ", ".join(self.settings)]
        moved = earlier is not None and earlier.threshold != self.threshold
        was = f"{earlier.threshold:.4f} -> " if earlier is not None and moved else ""
        parts += [f"threshold {was}{self.threshold:.4f}", f"profile {self.after[:SHORT]}"]
        who = f"by {printable(self.by)}" if self.by else "by nobody named"
        return f"{shown_time(self.time)}  {self.what} {who}: {'; '.join(filter(None, parts))}"

    def _photos(self, role: str) -> str:
        some = [photo for photo in self.photos if photo.role == role]
        names = [f"{printable(Path(each.name).name)}{reviewed(each)}" for each in some[:NAMED]]
        more = [f"{len(some) - NAMED} more"] if len(some) > NAMED else []
        return f"{len(some)} {WORDS[role][len(some) > 1]} ({', '.join(names + more)})" if some else ""


History = tuple[Change, ...]


def reviewed(photo: ChangedPhoto) -> str:
    if photo.reviewed is None:
        return ""
    return f", reviewed{f' by {printable(photo.reviewer)}' if photo.reviewer else ''} {shown_time(photo.reviewed)}"


def now() -> str:
    """This moment: ISO 8601, UTC, with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shown_time(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def changed_photos(
    before: Iterable[ProfilePhoto], after: Iterable[ProfilePhoto], reviews: Mapping[str, Review]
) -> list[ChangedPhoto]:
    """Which photos an update added and dropped.

    Args:
        reviews: of some photos, by name.
    """
    there = {photo.digest: photo for photo in before}
    now_there = {photo.digest: photo for photo in after}
    changed = []
    for photo in now_there.values():
        if photo.digest not in there:
            role: Role = "confirmed" if photo.role == CONFIRMED else "defect" if photo.role == DEFECT else "good"
            reviewer, time = reviews.get(photo.name, (None, None))
            changed.append(ChangedPhoto(name=photo.name, role=role, reviewer=reviewer, reviewed=time))
    dropped = (photo for photo in there.values() if photo.digest not in now_there)
    return changed + [ChangedPhoto(name=photo.name, role="dropped") for photo in dropped]


def describe_history(history: History) -> list[str]:
    """A line for each change, the oldest first."""
    earlier: tuple[Change | None, ...] = (None, *history)
    return [change.describe(before) for before, change in zip(earlier, history, strict=False)]
