"""The report page, made from a folder of results."""

from collections import Counter
from datetime import datetime
from heapq import nlargest
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, InstanceOf
from tqdm.auto import tqdm

from ..engine.result import NOT_INSPECTABLE
from ..files import parse_json, write_whole
from ..inspection.drift import Drift
from ..inspection.verdict_text import first_and_other_lines
from ..processing.image_processing_adaptclip import ANOMALOUS, NORMAL
from ..reporting import Report, print_nothing, printable
from ..runs.rows import read_row
from ..runs.store_lines import (
    DRIFT_FILE,
    PART_SETTINGS_FILE,
    REPORT_FILE,
    RESULTS_FILE,
    SETTINGS_FILE,
    lines_of,
)
from ..validation import FileContent
from .histogram_drawing import HistogramDrawing, template
from .pictures import Pictures

NAMED = 200  # at most so many unreadable files are named
LAST_TIME = 253402300799  # the last second of the year 9999, after which Python has no date


class ProfileContent(FileContent):
    """What the page shows of the profile in a run's settings."""

    model_config = ConfigDict(extra="ignore")

    description: str
    threshold: float | None = None
    scores: list[float] | None = None
    verdict: str | None = None


class SettingsContent(FileContent):
    """What the page shows of a run's settings."""

    model_config = ConfigDict(extra="ignore")

    profile: ProfileContent | None = None
    threshold: float | None = None


class DriftContent(FileContent):
    """A line of the drifts that were recorded."""

    last: InstanceOf[str]
    time: Annotated[float, Field(ge=0, le=LAST_TIME)]
    photos: int
    statistic: float
    p_value: float
    higher: bool


def write_report(
    folder: str | Path, title: str | None = None, images: int = 200, report: Report = print_nothing
) -> Path:
    """Writes `folder/report.html` and returns its path. The folder may have been moved since it was written.

    Args:
        folder: results that `adaptclip detect` wrote.
        title: the folder's name by default.
        images: the number of images to show, those with the highest scores.
        report: called with a line for each kind of picture that is not found.

    Raises:
        FileNotFoundError: the folder holds no results.
        ValueError: the results cannot be read.
    """
    folder = Path(folder)
    lines = read_lines(folder)
    settings = read_settings(folder / SETTINGS_FILE)
    scored = [line for line in lines if line["error"] is None]
    shown = nlargest(images, scored, key=lambda line: line["score"])
    pictures = Pictures(folder)
    cards = [card(line, pictures) for line in tqdm(shown, desc="pictures", unit="image", disable=len(shown) < 50)]
    failures = [line for line in lines if line["error"] is not None]
    for note in pictures.notes():
        report(f"! {note}")
    verdict, more = first_and_other_lines(None if settings.profile is None else settings.profile.verdict)
    page = {
        "title": printable(title or folder.resolve().name or str(folder.resolve())),
        "written": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "total": len(lines),
        "labels": Counter(line["label"] for line in scored),
        "decided": settings.profile is not None or settings.threshold is not None,
        "profile": settings.profile and list(map(printable, settings.profile.description.splitlines())),
        "verdict": list(map(printable, verdict)),
        "more_of_the_verdict": list(map(printable, more)),
        "histogram": histogram(scored, settings),
        "cards": cards,
        "missing": list(map(printable, pictures.notes())),
        "hidden": len(scored) - len(shown),
        "failures": [{name: printable(line[name]) for name in ("path", "error")} for line in failures[:NAMED]],
        "failed": len(failures),
        "drifts": list(map(printable, drifts(folder))),
        "own": sum(line["among_normals"] for line in scored),
    }
    write_whole(folder / REPORT_FILE, template("report.html").render(page).encode(errors="replace"))
    return folder / REPORT_FILE


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


def histogram(scored: list[dict], settings: SettingsContent) -> HistogramDrawing | None:
    if not scored:
        return None
    profile = settings.profile
    good = None if profile is None else profile.scores
    threshold = settings.threshold if profile is None or profile.threshold is None else profile.threshold
    labels = (NORMAL, ANOMALOUS, NOT_INSPECTABLE)
    groups = {label: [line["score"] for line in scored if line["label"] == label] for label in labels}
    groups["scored"] = [line["score"] for line in scored if line["label"] is None]
    return HistogramDrawing.of({name: scores for name, scores in groups.items() if scores}, good, threshold)


def card(line: dict, pictures: Pictures) -> dict:
    """What the gallery shows for an image."""
    height, width = line["size"]
    regions = line["regions"] or [] if line["label"] in (None, ANOMALOUS) else []
    return line | {
        "reason": line.get("reason"),
        "path": printable(line["path"]),
        "name": printable(Path(line["path"]).name),
        "photo": pictures.photo(line),
        "overlay": pictures.heatmap(line),
        "width": width,
        "height": height,
        "outlines": [" ".join(f"{x},{y}" for x, y in region["polygon"]) for region in regions],
        "regions": regions,
    }


def drifts(folder: Path) -> list[str]:
    """Lines about each drift that was recorded."""
    noted = lines_of(folder / DRIFT_FILE, lambda text: DriftContent.of(parse_json(text)))
    return [
        f"{datetime.fromtimestamp(each.time):%Y-%m-%d %H:%M}, up to {Path(each.last).name}: "
        f"{Drift(each.photos, each.statistic, each.p_value, each.higher).describe()}"
        for each in noted
    ]
