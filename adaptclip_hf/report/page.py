"""The report page, made from a folder of results."""

import json
from collections import Counter
from datetime import datetime
from heapq import nlargest
from pathlib import Path

from tqdm.auto import tqdm

from ..engine.heatmap import data_url
from ..files import read_json, write_whole
from ..inspection.drift import Drift
from ..processing.image_loading import load_image
from ..runs.store_lines import DRIFT_FILE, REPORT_FILE, RESULTS_FILE, SETTINGS_FILE
from .histogram_drawing import HistogramDrawing, template

LONGEST_SIDE = 480  # pixels of a picture on the page
QUALITY = 82
NAMED = 200  # at most so many unreadable files are named


def write_report(folder: str | Path, title: str | None = None, images: int = 200) -> Path:
    """Writes `folder/report.html` and returns its path.

    Args:
        folder: results that `adaptclip detect` wrote.
        title: the folder's name by default.
        images: the number of images to show, those with the highest scores.

    Raises:
        FileNotFoundError: the folder holds no results.
        ValueError: the results cannot be read.
    """
    folder = Path(folder)
    lines = read_lines(folder)
    settings = read_json(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).is_file() else {}
    scored = [line for line in lines if line["error"] is None]
    shown = nlargest(images, scored, key=lambda line: line["score"])
    profile = settings.get("profile")
    labels = Counter(line["label"] for line in scored)
    page = {
        "title": title or folder.resolve().name,
        "written": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "total": len(lines),
        "labels": labels,
        "decided": profile is not None or settings.get("threshold") is not None,
        "profile": profile and profile["description"].splitlines(),
        "histogram": histogram(scored, settings),
        "cards": [card(line) for line in tqdm(shown, desc="pictures", unit="image", disable=len(shown) < 50)],
        "hidden": len(scored) - len(shown),
        "failures": [line for line in lines if line["error"] is not None][:NAMED],
        "failed": len(lines) - len(scored),
        "drifts": drifts(folder),
        "own": sum(line["among_normals"] for line in scored),
    }
    write_whole(folder / REPORT_FILE, template("report.html").render(page).encode(errors="replace"))
    return folder / REPORT_FILE


def read_lines(folder: Path) -> list[dict]:
    """The lines of a folder's results."""
    file = folder / RESULTS_FILE
    if not file.is_file():
        raise FileNotFoundError(f"No results in {folder}: expected {RESULTS_FILE}, which `adaptclip detect` writes.")
    lines = []
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
            needed = ("path", "score", "label", "error", "heatmap", "among_normals", "p_value", "regions", "size")
            lines.append({name: line[name] for name in needed})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}, line {number}, was not written by `adaptclip detect` ({error!r}).") from error
    return lines


def histogram(scored: list[dict], settings: dict) -> HistogramDrawing | None:
    if not scored:
        return None
    profile = settings.get("profile") or {}
    threshold = profile.get("threshold", settings.get("threshold"))
    groups = {label: [line["score"] for line in scored if line["label"] == label] for label in ("normal", "anomalous")}
    groups["scored"] = [line["score"] for line in scored if line["label"] is None]
    return HistogramDrawing.of(
        {name: scores for name, scores in groups.items() if scores}, profile.get("scores"), threshold
    )


def card(line: dict) -> dict:
    """What the gallery shows for an image."""
    height, width = line["size"]
    regions = line["regions"] or [] if line["label"] != "normal" else []
    return line | {
        "name": Path(line["path"]).name,
        "photo": picture(line["path"]),
        "overlay": picture(line["heatmap"]),
        "width": width,
        "height": height,
        "outlines": [" ".join(f"{x},{y}" for x, y in region["polygon"]) for region in regions],
        "regions": regions,
    }


def picture(path: str | None) -> str | None:
    """A small copy of an image as a data URL; `None` if the image cannot be read any more."""
    if path is None:
        return None
    try:
        return data_url(load_image(path), LONGEST_SIDE, QUALITY)
    except (OSError, ValueError):
        return None


def drifts(folder: Path) -> list[str]:
    """Lines about each drift that was recorded."""
    file = folder / DRIFT_FILE
    if not file.is_file():
        return []
    noted = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()]
    fields = Drift.__dataclass_fields__
    return [
        f"{datetime.fromtimestamp(each['time']):%Y-%m-%d %H:%M}, up to {Path(each['last']).name}: "
        f"{Drift(**{name: each[name] for name in fields}).describe()}"
        for each in noted
    ]
