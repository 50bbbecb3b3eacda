"""The report page, made from a folder of results."""

import hashlib
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, InstanceOf
from tqdm.auto import tqdm

from ..engine.colour_scale import FIXED, ColourScale
from ..files import parse_json, write_whole
from ..inspection.noted_drift import Drift
from ..inspection.verdict_lines import first_and_other_lines
from ..labels import NORMAL, NOT_INSPECTABLE
from ..reporting import Report, print_nothing, printable
from ..runs.folder_content import (
    DRIFT_FILE,
    PART_SETTINGS_FILE,
    REPORT_FILE,
    RESULTS_FILE,
    SETTINGS_FILE,
    lines_of,
)
from ..runs.rows import read_row
from ..validation import FileContent
from .gallery import Card, Gallery, drawn_at_random, gallery_page, groups_of, ranks_of
from .pictures import GivesPictures, Pictures

NAMED = 200  # at most so many unreadable files are named
WITH_PROFILE = "adaptclip fit --update PROFILE --false-alarm-rate"
WITHOUT_PROFILE = "adaptclip detect ... --threshold"
LAST_TIME = 253402300799  # the last second of the year 9999, after which Python has no date


class ProfileContent(FileContent):
    """What the page shows of the profile in a run's settings."""

    model_config = ConfigDict(extra="ignore")

    description: str
    threshold: float | None = None
    scores: list[float] | None = None
    verdict: str | None = None
    digest: str | None = None
    pixel_threshold: float | None = None


class SettingsContent(FileContent):
    """What the page shows of a run's settings."""

    model_config = ConfigDict(extra="ignore")

    profile: ProfileContent | None = None
    threshold: float | None = None

    @property
    def used_threshold(self) -> float | None:
        return self.threshold if self.profile is None or self.profile.threshold is None else self.profile.threshold


class DriftContent(FileContent):
    """A line of the drifts that were recorded."""

    last: InstanceOf[str]
    time: Annotated[float, Field(ge=0, le=LAST_TIME)]
    photos: int
    statistic: float
    p_value: float
    higher: bool


def write_report(
    folder: str | Path,
    title: str | None = None,
    images: int = 200,
    sample: int = 60,
    report: Report = print_nothing,
) -> Path:
    """Writes `folder/report.html` and returns its path. The folder may have been moved since it was written.

    Args:
        folder: results that `adaptclip detect` wrote.
        title: the folder's name by default.
        images: the number of images to show, those with the highest scores.
        sample: the number of normal images drawn at random that the page offers for review; those that are not shown
            anyway come beside the others.
        report: called with a line for each kind of picture that is not found.

    Raises:
        FileNotFoundError: the folder holds no results.
        ValueError: the results cannot be read.
    """
    folder = Path(folder)
    rows = read_lines(folder)
    settings = read_settings(folder / SETTINGS_FILE)
    pictures = Pictures(folder)
    cards = cards_of(rows, settings, pictures, images, sample)
    for note in pictures.notes():
        report(f"! {note}")
    gallery = gallery_of(rows, settings, printable(title or folder.resolve().name or str(folder.resolve())))
    gallery = replace(
        gallery,
        hidden=gallery.total - gallery.failed - sum(card.listed for card in cards),
        drifts=list(map(printable, drifts(folder))),
        missing=list(map(printable, pictures.notes())),
    )
    write_whole(folder / REPORT_FILE, gallery_page(cards, gallery).encode(errors="replace"))
    return folder / REPORT_FILE


def cards_of(
    rows: list[dict], settings: SettingsContent, pictures: GivesPictures, images: int, sample: int
) -> list[Card]:
    """The cards of the highest scores, and of normal photos drawn at random; highest first."""
    scored = [row for row in rows if row["error"] is None]
    ranks = ranks_of([row["score"] for row in scored])
    drawn = {id(row): place for place, row in enumerate(drawn_at_random(scored, sample, key_of(rows, settings)))}
    highest = sorted(range(len(scored)), key=lambda number: place_of(scored[number]))
    chosen = highest[:images] + [number for number in highest[images:] if id(scored[number]) in drawn]
    return [
        Card.of(
            scored[number],
            settings.used_threshold,
            rank=ranks[number],
            photo=pictures.photo(scored[number]),
            overlay=pictures.heatmap(scored[number]),
            nearest_photo=pictures.nearest(scored[number]),
            drawn=drawn.get(id(scored[number])),
            listed=place < images,
        )
        for place, number in enumerate(tqdm(chosen, desc="pictures", unit="image", disable=len(chosen) < 50))
    ]


def place_of(row: dict) -> tuple[bool, bool, float]:
    """What the gallery is sorted by: the highest score first, but one that says nothing after all that alarm."""
    return row["label"] == NORMAL, row["label"] == NOT_INSPECTABLE, -row["score"]


def gallery_of(rows: list[dict], settings: SettingsContent, title: str) -> Gallery:
    """What the page says beside the photos."""
    failures = [row for row in rows if row["error"] is not None]
    profile = settings.profile
    verdict, more = first_and_other_lines(None if profile is None else profile.verdict)
    return Gallery(
        title=title,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        scores=groups_of(row for row in rows if row["error"] is None),
        parts=parts_of(rows),
        threshold=settings.used_threshold,
        permanent=WITHOUT_PROFILE if profile is None else WITH_PROFILE,
        calibration=() if profile is None or profile.scores is None else profile.scores,
        profile=None if profile is None else profile.digest,
        key=key_of(rows, settings),
        unread=[(printable(row["path"]), printable(row["error"])) for row in failures[:NAMED]],
        failed=len(failures),
        own=sum(row["among_normals"] for row in rows),
        description=list(map(printable, profile.description.splitlines())) if profile else (),
        verdict=list(map(printable, verdict)),
        more_of_the_verdict=list(map(printable, more)),
        pixel_threshold=None if profile is None else profile.pixel_threshold,
        colours=ColourScale(profile.pixel_threshold)
        if profile is not None and any(map(in_own_colours, rows))
        else FIXED,
    )


def parts_of(rows: list[dict]) -> dict[str, int]:
    """{label: how many parts} where photos were decided together."""
    labels = {row["part"]: row["part_label"] for row in rows if row.get("part_label") is not None}
    return dict(Counter(labels.values()))


def in_own_colours(row: dict) -> bool:
    """Whether its heatmap is on the profile's own scale: versions that noted no time drew all on the fixed one."""
    return row.get("time") is not None


def key_of(rows: list[dict], settings: SettingsContent) -> str:
    """The same for reports of one run, also when more photos have come since, and another for other runs."""
    first = [(row["path"], row["bytes"], row["modified"]) for row in rows[:1]]
    return hashlib.sha256(repr((settings.model_dump(), first)).encode(errors="surrogatepass")).hexdigest()[:16]


def read_lines(folder: Path) -> list[dict]:
    """The lines of a folder's results."""
    file = folder / RESULTS_FILE
    if not file.is_file():
        why = f"No results in {folder}: expected {RESULTS_FILE}, which `adaptclip detect` writes."
        if (folder / PART_SETTINGS_FILE).is_file():
            why = (
                f"{folder} holds Parquet parts, of --engine ray, which have no pictures: a report is made of "
                f"{RESULTS_FILE}, which `adaptclip detect` writes without --engine ray."
            )
        raise FileNotFoundError(why)
    return list(lines_of(file, read_row))


def read_settings(file: Path) -> SettingsContent:
    return (
        SettingsContent.read(file, "Remove it; the report then shows no threshold.")
        if file.is_file()
        else SettingsContent()
    )


def drifts(folder: Path) -> list[str]:
    """Lines about each drift that was recorded."""
    noted = lines_of(folder / DRIFT_FILE, lambda text: DriftContent.of(parse_json(text)))
    return [
        f"{datetime.fromtimestamp(each.time):%Y-%m-%d %H:%M}, up to {Path(each.last).name}: "
        f"{Drift(each.photos, each.statistic, each.p_value, each.higher).describe()}"
        for each in noted
    ]
