"""The gallery: photos beside their maps, worst first, to look at, to review, and to try other thresholds on.

One page that needs nothing else: it is the report of a run, and the page of `adaptclip demo` shows it in a frame.
"""

import base64
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.colour_scale import FIXED, ColourScale
from ..labels import ANOMALOUS, NORMAL, NOT_INSPECTABLE
from ..labels import SCORE as BY_SCORE
from ..reporting import printable
from .assets import inlined, template
from .histogram_drawing import HistogramDrawing

SCORED = "scored"  # in place of a label that nothing decided
MOST_REGIONS = 12  # listed for a photo


@dataclass(frozen=True, kw_only=True)
class Card:
    """A photo in the gallery.

    Attributes:
        path: as the row has it, which is what a decision names.
        size: (height, width) of the photo.
        rank: 1 for the highest score of the run.
        label: "normal", "anomalous", "not inspectable", or `None` where nothing was decided.
        photo, overlay: data URLs of the photo, and of the map drawn over it.
        p_value, margin, regions, among_normals, part, part_label, reason, nearest: as in rows.
        nearest_photo: data URL of the good photo that is nearest.
        stamp: tells a photo that has changed since, whose decision is not taken up again.
        drawn: its place among the normal photos that were drawn at random, from 0; `None` for others.
        listed: whether it is one of the highest, which are shown at once; else it is only there for the random review.
    """

    path: str
    score: float
    size: tuple[int, int]
    rank: int
    label: str | None = None
    photo: str | None = None
    overlay: str | None = None
    p_value: float | None = None
    margin: float | None = None
    regions: Sequence[dict[str, Any]] = ()
    among_normals: bool = False
    part: str | None = None
    part_label: str | None = None
    reason: str | None = None
    nearest: str | None = None
    nearest_photo: str | None = None
    stamp: str = ""
    drawn: int | None = None
    listed: bool = True

    @classmethod
    def of(cls, row: Mapping[str, Any], threshold: float | None, **more: Any) -> "Card":
        """The card of a row.

        Args:
            threshold: of the run, for the margin of rows that have none.
            more: the other fields: `rank`, pictures, `drawn`, `listed`.
        """
        margin = row.get("margin")
        if margin is None and threshold is not None and threshold > 0:
            margin = row["score"] / threshold
        return cls(
            path=row["path"],
            score=row["score"],
            size=tuple(row["size"]),
            label=row["label"],
            p_value=row["p_value"],
            margin=margin,
            regions=(row["regions"] or ()) if row["label"] != NORMAL else (),
            among_normals=row["among_normals"],
            stamp=f"{row.get('bytes')}-{row.get('modified')}",
            part=row.get("part"),
            part_label=row.get("part_label"),
            reason=row.get("reason"),
            nearest=row.get("nearest"),
            **more,
        )

    @property
    def shown_path(self) -> str:
        return printable(self.path)

    @property
    def name(self) -> str:
        return printable(Path(self.path).name)

    @property
    def shown_part(self) -> str:
        return printable(self.part or "")

    @property
    def shown_nearest(self) -> str:
        return printable(self.nearest or "")

    @property
    def place(self) -> str:
        """`3rd highest`."""
        ending = "th" if self.rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(self.rank % 10, "th")
        return "highest" if self.rank == 1 else f"{self.rank}{ending} highest"

    @property
    def group(self) -> str:
        return SCORED if self.label is None else self.label

    @property
    def badges(self) -> list[tuple[str, str]]:
        """(kind, text) of what is said beside the label."""
        badges = []
        if self.reason is not None and self.reason != BY_SCORE:
            badges.append(("reason", self.reason))
        if self.part is not None:
            badges.append(("part", f"part {self.part}" + (f": {self.part_label}" if self.part_label else "")))
        if self.among_normals:
            badges.append(("own", "one of the profile's own"))
        return [(kind, printable(text)) for kind, text in badges]

    @property
    def outlines(self) -> list[tuple[str, bool]]:
        """(points, whether it is significant) of each region."""
        return [(" ".join(f"{x},{y}" for x, y in region["polygon"]), region["significant"]) for region in self.regions]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """What the page says beside the photos.

    Attributes:
        title, written: what the page is of, and when it was made.
        scores: {label, or "scored": scores} of all photos of the run, shown or not.
        parts: {label: how many parts} where photos were decided together.
        threshold: of the run, or `None`.
        permanent: what to call to decide with another threshold from now on.
        calibration: scores of the good photos that calibrated.
        profile: its digest.
        key: under which the browser keeps the decisions; empty to keep none.
        decisions: that were made before, as in `decisions.json`.
        unread: (path, error) of the photos that could not be read, the first of them; `failed` is how many they are.
        hidden: how many photos are not in the gallery because others score higher.
        own: how many photos are among the profile's own.
        description, verdict, more_of_the_verdict, drifts, missing: lines to show.
        pixel_threshold: from which map value on regions begin.
        colours: with which the maps were drawn.
        framed: another page shows this one in a frame: no heading, no summary.
    """

    title: str
    written: str = ""
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    parts: Mapping[str, int] = field(default_factory=dict)
    threshold: float | None = None
    permanent: str = "adaptclip detect ... --threshold"
    calibration: Sequence[float] = ()
    profile: str | None = None
    key: str = ""
    decisions: Sequence[Mapping[str, Any]] = ()
    unread: Sequence[tuple[str, str]] = ()
    failed: int = 0
    hidden: int = 0
    own: int = 0
    description: Sequence[str] = ()
    verdict: Sequence[str] = ()
    more_of_the_verdict: Sequence[str] = ()
    drifts: Sequence[str] = ()
    missing: Sequence[str] = ()
    pixel_threshold: float | None = None
    colours: ColourScale = FIXED
    framed: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """{label: number of photos}."""
        return {label: len(self.scores.get(label, ())) for label in (ANOMALOUS, NORMAL, NOT_INSPECTABLE, SCORED)}

    @property
    def total(self) -> int:
        return sum(self.counts.values()) + self.failed

    @property
    def decided(self) -> bool:
        return self.threshold is not None or bool(self.total - self.failed - self.counts[SCORED])

    def histogram(self) -> HistogramDrawing | None:
        order = (NORMAL, ANOMALOUS, NOT_INSPECTABLE, SCORED)
        groups = {label: self.scores[label] for label in order if len(self.scores.get(label, ()))}
        return HistogramDrawing.of(groups, self.calibration, self.threshold) if groups else None


def gallery_page(cards: Sequence[Card], gallery: Gallery) -> str:
    """The whole page: HTML, styles, script and pictures in one text that fetches nothing.

    Args:
        cards: highest scores first.
    """
    histogram = gallery.histogram()
    return template("report.html").render(
        gallery=gallery,
        cards=cards,
        histogram=histogram,
        labels=[label for label, count in gallery.counts.items() if count and label != SCORED],
        drawn=sum(card.drawn is not None for card in cards),
        most_regions=MOST_REGIONS,
        title=printable(gallery.title),
        gradient=gradient(gallery.colours),
        style=inlined("report.css"),
        script=inlined("report.js"),
        told={
            "cards": [
                {
                    "path": card.path,
                    "stamp": card.stamp,
                    "score": card.score,
                    "drawn": card.drawn,
                    "listed": card.listed,
                }
                for card in cards
            ],
            "scores": {label: packed(scores) for label, scores in gallery.scores.items() if len(scores)},
            "threshold": gallery.threshold,
            "end": 1.0 if histogram is None else histogram.end,
            "calibration": packed(gallery.calibration),
            "profile": gallery.profile,
            "key": gallery.key,
            "decisions": list(gallery.decisions),
        },
    )


def groups_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The `scores` of a [`Gallery`], from rows without an error."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        label = SCORED if row["label"] is None else row["label"]
        groups.setdefault(label, []).append(row["score"])
    return groups


def ranks_of(scores: Sequence[float]) -> list[int]:
    """For each score how many are higher, and one: equal scores have one rank."""
    ascending = np.sort(np.asarray(scores, np.float64))
    return (len(ascending) - np.searchsorted(ascending, scores, side="right") + 1).tolist()


def drawn_at_random(rows: Sequence[Mapping[str, Any]], count: int, key: str) -> list[Mapping[str, Any]]:
    """Normal photos in a random order, the same one for the same rows and key; of all normal ones, shown or not.

    The profile's own photos are no part of what came along the line.
    """
    normal = [row for row in rows if row["label"] == NORMAL and not row["among_normals"]]
    return random.Random(key).sample(normal, min(count, len(normal)))


def packed(scores: Sequence[float]) -> str:
    """Scores in ascending order for the script: base64 of little-endian doubles, so that counts are exact."""
    return base64.b64encode(np.sort(np.asarray(scores, "<f8")).tobytes()).decode()


def gradient(colours: ColourScale) -> str:
    """The colours of the map from 0 to 1 as CSS."""
    stops = [
        f"rgba({red:.0f},{green:.0f},{blue:.0f},{opacity:.2f}) {100 * value:.1f}%"
        for value, red, green, blue, opacity in colours.stops
    ]
    return f"linear-gradient(to right, transparent {100 * colours.stops[0][0]:.1f}%, {', '.join(stops)})"
