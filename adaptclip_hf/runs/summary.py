"""What a run came to, for people."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from heapq import nlargest

from ..labels import ANOMALOUS, NORMAL, NOT_INSPECTABLE
from ..reporting import printable

WORTH_A_SHARE = 20  # images
SHOWN = 10


@dataclass
class RunSummary:
    """What a run came to; the summaries of its pieces join.

    Attributes:
        scored, unreadable: how many images of this call.
        before: how many of its images had been scored by an earlier call.
        labels: how many of each.
        highest: (score, label, path) of the highest scores.
        lowest: the lowest score; 1 without any.
        failed: paths of the first files that could not be read.
        unseen: (path, reason) of the first photos that were not inspectable.
        seconds: of the whole run.
        parts: what came of the parts, in words; `None` where photos are decided one by one.
        waited: seconds of them in which the model waited for an image to be read.
    """

    scored: int = 0
    unreadable: int = 0
    before: int = 0
    labels: Counter = field(default_factory=Counter)
    highest: list[tuple[float, str, str]] = field(default_factory=list)
    lowest: float = 1.0
    failed: list[str] = field(default_factory=list)
    unseen: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0
    parts: str | None = None

    def add(self, row: dict):
        """Adds a row, which the caller counts as scored now or before."""
        if row["error"] is not None:
            self.unreadable += 1
            self.failed = [*self.failed, row["path"]][:SHOWN]
            return
        self.labels[row["label"]] += 1
        if row["label"] == NOT_INSPECTABLE:
            self.unseen = [*self.unseen, (row["path"], row.get("reason") or "")][:SHOWN]
        self.lowest = min(self.lowest, row["score"])
        self.highest = nlargest(SHOWN, [*self.highest, (row["score"], row["label"] or "", row["path"])])

    @classmethod
    def of(cls, rows: Iterable[dict]) -> "RunSummary":
        """Of rows that were scored now."""
        summary = cls()
        for row in rows:
            summary.add(row)
        summary.scored = sum(summary.labels.values())
        return summary

    def join(self, other: "RunSummary"):
        """Adds what came to another piece of the same run."""
        self.scored += other.scored
        self.unreadable += other.unreadable
        self.before += other.before
        self.labels += other.labels
        self.lowest = min(self.lowest, other.lowest)
        newest = {each[2]: each for each in (*self.highest, *other.highest)}  # a photo may be scored again
        self.highest = nlargest(SHOWN, newest.values())
        self.failed = [*self.failed, *other.failed][:SHOWN]
        self.unseen = [*self.unseen, *other.unseen][:SHOWN]
        self.seconds += other.seconds
        self.waited += other.waited

    def describe(self, place_of: Callable[[float], str] = lambda score: "") -> str:
        """A few lines for people: how many, how fast, the highest scores, what failed.

        Args:
            place_of: words beside a score, see [`Reference.place_of`].
        """
        total = sum(self.labels.values())
        lines = [f"{self.scored} images in {self.seconds:.1f} s ({self.seconds / max(1, self.scored):.2f} s an image)"]
        if self.scored >= WORTH_A_SHARE and self.waited:
            lines[0] += f", {self.waited / self.seconds:.0%} of it waiting for files"
        if self.before:
            lines[0] += f", {self.before} scored before"
        if self.labels.keys() - {None}:
            lines[0] += f": {self.labels[ANOMALOUS]} anomalous, {self.labels[NORMAL]} normal"
            if unseen := self.labels[NOT_INSPECTABLE]:
                lines[0] += f", {unseen} not inspectable"
        if self.parts:
            lines.append(self.parts)
        if self.highest:
            lines.append("highest scores:" if total > len(self.highest) else "scores:")
            for score, label, path in self.highest:
                words = ("", f"{score:.4f}", f"{label:9}", *filter(None, [place_of(score)]), printable(path))
                lines.append("  ".join(words))
        if total > len(self.highest):
            lines.append(f"  ... {total - len(self.highest)} more, down to {self.lowest:.4f}")
        if unseen := self.labels[NOT_INSPECTABLE]:
            more = f" and {unseen - len(self.unseen)} more" if unseen > len(self.unseen) else ""
            named = ", ".join(f"{printable(path)} ({reason})" for path, reason in self.unseen)
            photos = "1 photo is" if unseen == 1 else f"{unseen} photos are"
            lines.append(f"{photos} not inspectable, neither normal nor anomalous: {named}{more}")
        if self.unreadable:
            more = f" and {self.unreadable - SHOWN} more" if self.unreadable > SHOWN else ""
            files = "1 file" if self.unreadable == 1 else f"{self.unreadable} files"
            lines.append(f"{files} could not be read: {', '.join(map(printable, self.failed))}{more}")
        return "\n".join(lines)
