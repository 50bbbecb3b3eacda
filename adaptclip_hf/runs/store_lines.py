"""A folder of results: `results.jsonl`, a line an image as it comes, and pictures beside it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from ..engine import DetectionResult, Result
from ..engine.heatmap import save_drawn
from ..files import append, inside, naming, new_name, parse_json, whole_file, write_array, write_json
from ..inspection.deciding import DecidingProfile
from ..inspection.drift import Drift, DriftWatch
from ..reporting import Report, print_nothing
from ..resume import parsed_settings
from .folder_content import (
    DRIFT_FILE,
    FOLDERS,
    HEATMAP_FOLDER,
    PART_SETTINGS_FILE,
    REPORT_FILE,
    RESULTS_FILE,
    SETTINGS_FILE,
    lines_of,
    picture_of,
)
from .formats import FORMAT_FILES, JSONL
from .index import Index
from .outbox import OUTBOX_FILE, Outbox
from .rows import ROW, SEEN, completed, is_decided, read_row
from .spec import RunSpec
from .stamps import Stamp
from .store import ADVICE, Store

SEEN_FILE = ".seen.jsonl"  # for each row where its image lay, and what tells a changed one; only for going on
UNFINISHED = ".unfinished-"


class LineStore(Store):
    """Rows as JSON lines, heatmaps as `heatmaps/*.png`, maps as `maps/*.npy` (float32 (H, W) of the image's own size).

    Each decision is in the outbox before it is a row, where there is one. With a profile it also notes in `drift.jsonl`
    when images that are called good no longer look like the profile's.
    """

    own_format = JSONL

    def __init__(self, output: Path, spec: RunSpec, report: Report = print_nothing):
        self.output, self.file, self.spec, self.report = output, output / RESULTS_FILE, spec, report
        self.folder_here, self.place = output, str(output)
        self.written = f"{self.file}" + (f", {output / HEATMAP_FOLDER}" if spec.heatmaps else "")
        self.outbox: Outbox | None = None
        profile = spec.reference
        self.drift = DriftWatch(profile.photo_calibration) if isinstance(profile, DecidingProfile) else None

    def begin(self, settings: dict, overwrite: bool):
        """
        Raises:
            ValueError: also where a link leads out of the folder, or other files lie where results would.
        """
        for name in (RESULTS_FILE, DRIFT_FILE, SEEN_FILE, OUTBOX_FILE, *FOLDERS.values()):
            inside(self.output, name)
        if (self.output / PART_SETTINGS_FILE).is_file():
            raise ValueError(f"{self.output} holds Parquet parts, of --engine ray: name another --output.")
        known = (self.output / SETTINGS_FILE).is_file()
        if overwrite and (known or self.file.is_file()):
            self._tell_of_waiting()
            self._clear()
        elif not known:
            for name in () if overwrite else (RESULTS_FILE, *(FORMAT_FILES[each] for each in self.spec.formats)):
                if (self.output / name).exists():
                    raise ValueError(
                        f"{self.output / name} is there without a {SETTINGS_FILE} that says what it is of: {ADVICE}."
                    )
        self.keep_or_match(settings)

    def read_settings(self) -> dict | None:
        file = self.output / SETTINGS_FILE
        return parsed_settings(file.read_bytes(), str(file), ADVICE) if file.is_file() else None

    def write_settings(self, settings: dict):
        write_json(self.output / SETTINGS_FILE, settings)

    def _tell_of_waiting(self):
        """Says how many decisions of the run before are dropped that no target has yet."""
        if not (self.output / OUTBOX_FILE).is_file():
            return
        with suppress(OSError), closing(Outbox(self.output / OUTBOX_FILE)) as before:
            for target in before.targets():
                if waiting := before.waiting(target):
                    self.report(f"{waiting} decisions that waited for {target} are dropped with the results before")

    def _clear(self):
        """Removes what an earlier run wrote, and nothing else."""
        if self.file.is_file():
            with self.file.open("rb") as opened:
                for text in opened:
                    try:
                        self._remove_pictures(read_row(text))
                    except ValueError:
                        continue  # no line of ours, so that it names no picture of ours
        for name in (SETTINGS_FILE, DRIFT_FILE, SEEN_FILE, OUTBOX_FILE, REPORT_FILE, *FORMAT_FILES.values()):
            (self.output / name).unlink(missing_ok=True)

    def load(self, index: Index):
        """
        Raises:
            ValueError: a line that `adaptclip detect` has not written; names file and line.
        """
        for folder in FOLDERS.values():
            for file in (self.output / folder).glob(f"{UNFINISHED}*"):
                file.unlink()
        for file in (self.file, self.output / SEEN_FILE, self.output / DRIFT_FILE):
            cut_off_unfinished(file)
        self.file.touch()
        with index.loading():
            for seen in lines_of(self.output / SEEN_FILE, parse_seen):
                index.note_seen(*seen)
            for row in lines_of(self.file, read_row):
                index.note(row)
                for name in FOLDERS:
                    if row[name]:
                        index.take_name(Path(row[name]).stem)

    def __iter__(self) -> Iterator[dict]:
        with self.file.open("rb") as opened:
            yield from map(completed, map(json.loads, opened))

    def rewrite(self, change: Callable[[dict], dict | None]):
        """Also removes what was written of the images whose rows go."""
        with whole_file(self.file) as opened:
            for row in self:
                if (changed := change(row)) is not None:
                    opened.write(as_line(changed))
                else:
                    self._remove_pictures(row)

    def _remove_pictures(self, row: dict):
        """Removes a row's heatmap and map, which lie in their folders whatever the row says."""
        for name in FOLDERS:
            if (file := picture_of(self.output, row, name)) is not None:
                file.unlink(missing_ok=True)

    def add(self, row: dict, result: Result):
        """The row's pictures are on disk before it is; it is in the file when this returns."""
        if isinstance(result, DetectionResult) and (self.spec.heatmaps or self.spec.maps):
            name = new_name(Path(row["path"]), self.index.names)
            if self.spec.heatmaps:
                row["heatmap"] = self._saved(f"{name}.png", "heatmap", lambda file: save_drawn(result.heatmap(), file))
            if self.spec.maps:
                row["map"] = self._saved(f"{name}.npy", "map", lambda file: write_array(file, result.anomaly_map))
            self.index.take_name(name)
        if self.outbox is not None:
            self.outbox.put(row)  # first: what is in the results is never lost on the way to a target
        append(self.output / SEEN_FILE, as_seen(row))
        append(self.file, as_line(row))
        self.index.note(row)
        if self.drift is not None and is_decided(row) and not row["among_normals"]:
            self._note_drift(row, self.drift.add(row["score"]))

    def finish(self):
        """Each row is in the file already."""

    def _saved(self, name: str, kind: str, save: Callable[[BinaryIO], None]) -> str:
        """A file that appears whole or not at all."""
        file = self.output / FOLDERS[kind] / name
        temporary = file.with_name(f"{UNFINISHED}{name}")
        with naming(file):
            file.parent.mkdir(exist_ok=True)
            try:
                with temporary.open("wb") as opened:
                    save(opened)
                temporary.replace(file)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return str(file)

    def _note_drift(self, row: dict, drift: Drift | None):
        if drift is not None:
            self.report(f"DRIFT: {drift.describe()}")
            noted = {"last": row["path"], "time": time.time(), **asdict(drift)}
            append(self.output / DRIFT_FILE, json.dumps(noted).encode() + b"\n")

    def writing(self, name: str):
        return whole_file(self.output / name)

    def has(self, name: str) -> bool:
        return (self.output / name).is_file()


def cut_off_unfinished(file: Path):
    """Cuts away a last line that was not written to its end."""
    if file.is_file():
        with file.open("rb+") as opened:
            opened.truncate(sum(len(text) for text in opened if text.endswith(b"\n")))


def as_line(row: dict) -> bytes:
    return json.dumps({name: row[name] for name in ROW}).encode() + b"\n"


def as_seen(row: dict) -> bytes:
    return json.dumps({name: row[name] for name in ("path", "bytes", "modified", *SEEN)}).encode() + b"\n"


def parse_seen(text: bytes) -> tuple[str, Stamp, str]:
    """(path, stamp, place) of a line of [`SEEN_FILE`]."""
    noted = parse_json(text)
    stamp = Stamp(*(noted[name] for name in Stamp._fields))
    if not isinstance(noted["path"], str) or not isinstance(noted["file"], str):
        raise ValueError("path, file: expected texts")
    if not all(each is None or isinstance(each, int) for each in stamp[:3]):
        raise ValueError("bytes, modified, changed: expected whole numbers")
    return noted["path"], stamp, noted["file"]
