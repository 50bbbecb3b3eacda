"""A folder of results: `results.jsonl`, a line an image as it comes, and pictures beside it."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..engine import DetectionResult, Result
from ..files import new_name, whole_file
from ..inspection import InspectionProfile
from ..inspection.drift import Drift, DriftWatch
from ..reporting import Report, print_nothing
from ..resume import keep_or_match
from .formats import FORMAT_FILES, JSONL
from .index import Index
from .spec import RunSpec
from .store import ADVICE, Store

RESULTS_FILE = FORMAT_FILES[JSONL]
REPORT_FILE = "report.html"
SETTINGS_FILE = "detect.json"
HEATMAP_FOLDER = "heatmaps"
MAP_FOLDER = "maps"
DRIFT_FILE = "drift.jsonl"
UNFINISHED = ".unfinished-"


class LineStore(Store):
    """Rows as JSON lines, heatmaps as `heatmaps/*.png`, maps as `maps/*.npy` (float32 (H, W) of the image's own size).

    With a profile it also notes in `drift.jsonl` when images that are called good no longer look like the profile's.
    """

    own_format = JSONL

    def __init__(self, output: Path, spec: RunSpec, report: Report = print_nothing):
        self.output, self.file, self.spec, self.report = output, output / RESULTS_FILE, spec, report
        self.folder_here = output
        self.written = f"{self.file}" + (f", {output / HEATMAP_FOLDER}" if spec.heatmaps else "")
        profile = spec.reference
        self.drift = DriftWatch(profile.calibration) if isinstance(profile, InspectionProfile) else None

    def begin(self, settings: dict, overwrite: bool):
        if overwrite:
            self._clear()
        elif self.file.is_file() and not (self.output / SETTINGS_FILE).is_file():
            raise ValueError(
                f"{self.file} is there without a {SETTINGS_FILE} that says what its lines are of: {ADVICE}."
            )
        keep_or_match(self.output / SETTINGS_FILE, settings, ADVICE)

    def _clear(self):
        """Removes what an earlier run wrote, and nothing else."""
        for name in (SETTINGS_FILE, DRIFT_FILE, REPORT_FILE, *FORMAT_FILES.values()):
            (self.output / name).unlink(missing_ok=True)
        for folder, ending in ((HEATMAP_FOLDER, "*.png"), (MAP_FOLDER, "*.npy")):
            for file in (self.output / folder).glob(ending):
                file.unlink()

    def load(self, index: Index):
        """
        Raises:
            ValueError: a line that `adaptclip detect` has not written; names file and line.
        """
        for folder in (HEATMAP_FOLDER, MAP_FOLDER):
            for file in (self.output / folder).glob(f"{UNFINISHED}*"):
                file.unlink()
        self.file.touch()
        self._cut_off_unfinished()
        with index.loading(), self.file.open("rb") as opened:
            for number, text in enumerate(opened, start=1):
                try:
                    row = json.loads(text)
                    index.note(row)
                    for written in files_of(row):
                        index.take_name(Path(written).stem)
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(
                        f"{self.file}, line {number}, is not of `adaptclip detect` ({error!r}): remove it, or "
                        "--overwrite."
                    ) from error

    def _cut_off_unfinished(self):
        """Cuts away a last line that was not written to its end."""
        with self.file.open("rb+") as opened:
            opened.truncate(sum(len(text) for text in opened if text.endswith(b"\n")))

    def __iter__(self) -> Iterator[dict]:
        with self.file.open("rb") as opened:
            yield from map(json.loads, opened)

    def rewrite(self, change: Callable[[dict], dict | None]):
        """Also removes what was written of the images whose rows go."""
        with whole_file(self.file) as opened:
            for row in self:
                if (changed := change(row)) is not None:
                    opened.write(as_line(changed))
                    continue
                for written in files_of(row):
                    Path(written).unlink(missing_ok=True)

    def add(self, row: dict, result: Result):
        """The row's pictures are on disk before it is; it is in the file when this returns."""
        if isinstance(result, DetectionResult) and (self.spec.heatmaps or self.spec.maps):
            name = new_name(Path(row["path"]), self.index.names)
            self.index.take_name(name)
            if self.spec.heatmaps:
                row["heatmap"] = self._saved(HEATMAP_FOLDER, f"{name}.png", result.heatmap().save)
            if self.spec.maps:
                row["map"] = self._saved(MAP_FOLDER, f"{name}.npy", lambda file: np.save(file, result.anomaly_map))
        with self.file.open("ab") as opened:
            opened.write(as_line(row))
        self.index.note(row)
        if self.drift is not None and row["error"] is None and not row["among_normals"]:
            self._note_drift(row, self.drift.add(row["score"]))

    def finish(self):
        """Each row is in the file already."""

    def _saved(self, folder: str, name: str, save: Callable[[Path], None]) -> str:
        """A file that appears whole or not at all."""
        file = self.output / folder / name
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_name(f"{UNFINISHED}{name}")
        save(temporary)
        temporary.replace(file)
        return str(file)

    def _note_drift(self, row: dict, drift: Drift | None):
        if drift is not None:
            self.report(f"DRIFT: {drift.describe()}")
            with (self.output / DRIFT_FILE).open("a", encoding="utf-8") as opened:
                opened.write(json.dumps({"last": row["path"], "time": time.time(), **asdict(drift)}) + "\n")

    def writing(self, name: str):
        return whole_file(self.output / name)


def as_line(row: dict) -> bytes:
    return json.dumps(row).encode() + b"\n"


def files_of(row: dict) -> list[str]:
    """What was written of a row's image."""
    return [row[name] for name in ("heatmap", "map") if row.get(name)]
