"""What lies in a folder of results, and how it is read; imports nothing heavy."""

from collections.abc import Callable, Iterator
from pathlib import Path

from .formats import FORMAT_FILES, JSONL

RESULTS_FILE = FORMAT_FILES[JSONL]
REPORT_FILE = "report.html"
SETTINGS_FILE = "detect.json"
PART_SETTINGS_FILE = "_detect.json"  # of a folder of Parquet parts
HEATMAP_FOLDER = "heatmaps"
MAP_FOLDER = "maps"
DRIFT_FILE = "drift.jsonl"
FOLDERS = {"heatmap": HEATMAP_FOLDER, "map": MAP_FOLDER}


def picture_of(output: Path, row: dict, kind: str) -> Path | None:
    """Where a row's "heatmap" or "map" lies in a folder of results, also where the folder was moved since.

    Of what the row says the file's name counts alone: a folder of results that somebody gives names no other file.
    """
    name = Path(row[kind]).name if row[kind] else ""
    return None if name in ("", "..") or "\0" in name else output / FOLDERS[kind] / name


def lines_of(file: Path, read: Callable[[bytes], object]) -> Iterator:
    """What a file's whole lines hold, each read by `read`; nothing where there is no file.

    Raises:
        ValueError: `read` refuses a line; names file and line.
    """
    if not file.is_file():
        return
    with file.open("rb") as opened:
        for number, text in enumerate(opened, start=1):
            if not text.endswith(b"\n"):
                return  # the last one, which is not written to its end
            try:
                yield read(text)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{file}, line {number}, is not of `adaptclip detect` ({error}): remove it, or --overwrite."
                ) from error
