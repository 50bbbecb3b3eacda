"""The decision on each part of a run, from the rows of its photos."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..inspection.parts import NAMED, UsualPart, label_of_part, named
from ..labels import ANOMALOUS
from ..reporting import printable
from .index import Index, NotedPhoto
from .store import Store


@dataclass
class PartSummary:
    """What came of the parts whose photos have rows; see [`~PartSummary.describe`].

    Attributes:
        labels: how many parts of each.
        anomalous: names of the first of those that are called anomalous.
        differing: the first of those that were photographed in another way than the profile's, each with how.
        differ: how many they are.
        alone: images that belong to no part.
    """

    labels: Counter = field(default_factory=Counter)
    anomalous: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    differ: int = 0
    alone: int = 0

    @classmethod
    def of(cls, index: Index, usual: UsualPart) -> "PartSummary":
        summary = cls(alone=index.without_part())
        for part in index.parts():
            photos = index.of_part(part)
            label = label_of_part(photo.label for photo in photos)
            summary.labels[label] += 1
            if label == ANOMALOUS and len(summary.anomalous) < NAMED:
                summary.anomalous.append(printable(part))
            if how := usual.differs([photo.path for photo in photos if not photo.unreadable]):
                summary.differ += 1
                if len(summary.differing) < NAMED:
                    summary.differing.append(f"{printable(part)} ({how})")
        return summary

    def describe(self) -> str:
        """Lines for people."""
        counts = [f"{count} {label or 'undecided'}" for label, count in sorted(self.labels.items(), key=str)]
        bad = self.labels[ANOMALOUS]
        lines = [f"{self.labels.total()} parts: {', '.join(counts) or 'none'}"]
        if self.anomalous:
            lines.append(f"anomalous parts: {named(self.anomalous, bad)}")
        if self.differing:
            lines.append(
                f"{self.differ} {'part was' if self.differ == 1 else 'parts were'} not photographed as the profile's: "
                f"{named(self.differing, self.differ)}; what no photo shows is not inspected, and more photos give "
                "more false alarms"
            )
        if self.alone:
            belong = "image belongs" if self.alone == 1 else "images belong"
            lines.append(f"{self.alone} {belong} to no part: decided each for itself")
        return "\n".join(lines)


def label_so_far(before: Iterable[NotedPhoto], row: dict, usual: UsualPart) -> str | None:
    """What is known of a part when one more of its photos is decided.

    "anomalous" as soon as one photo is; otherwise `None` until as many have been read as a part usually has.

    Args:
        before: its photos that have rows.
        row: of the photo.
    """
    photos = [*before, NotedPhoto(row["path"], row["label"], row["error"] is not None)]
    return label_of(photos, usual, awaiting=True)


def label_of(photos: list[NotedPhoto], usual: UsualPart, awaiting: bool) -> str | None:
    """A part's label; if `awaiting` none but "anomalous" before as many photos as usual have been read."""
    label = label_of_part(photo.label for photo in photos)
    lacks = sum(not photo.unreadable for photo in photos) < usual.photos
    return None if awaiting and lacks and label != ANOMALOUS else label


def label_parts(store: Store, usual: UsualPart, awaiting: bool) -> PartSummary:
    """Writes the decision on each part into the rows of all its photos.

    Args:
        awaiting: photos may still come, so that no part is called normal before it has as many as usual.
    """
    store.load(store.index)  # as the rows are now: workers may have written them, and labels may have been corrected

    def with_label(row: dict) -> dict:
        if row["part"] is None:
            return row
        return row | {"part_label": label_of(store.index.of_part(row["part"]), usual, awaiting)}

    store.rewrite(with_label)
    return PartSummary.of(store.index, usual)
