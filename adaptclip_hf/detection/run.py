"""The run behind `adaptclip detect`: many images, one line each as it goes; stopped anywhere, it goes on from there."""

import json
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ..engine import AnomalyDetector, DetectionResult, View
from ..files import new_name
from ..inspection import InspectionProfile, discoveries
from ..inspection.drift import DriftWatch
from ..modeling.prompt_bank import PromptBank
from ..reporting import Report, print_line, print_nothing
from ..run_settings import keep_or_match
from .formats import COCO, CSV, FORMAT_FILES, JSONL, LABEL_STUDIO, PARQUET
from .lines import ResultLines, stamp_of
from .summary import DetectionSummary
from .watching import complete_images

RESULTS_FILE = FORMAT_FILES[JSONL]
REPORT_FILE = "report.html"
SETTINGS_FILE = "detect.json"
HEATMAP_FOLDER = "heatmaps"
MAP_FOLDER = "maps"
DRIFT_FILE = "drift.jsonl"
UNFINISHED = ".unfinished-"
READ_AHEAD = 4


def detect_files(
    detector: AnomalyDetector,
    paths: Iterable[Path],
    output: Path,
    prompt_bank: PromptBank | None = None,
    object_name: str | None = None,
    threshold: float | None = None,
    profile: InspectionProfile | None = None,
    view: View | None = None,
    batch_size: int = 1,
    heatmaps: bool = True,
    maps: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    watch: Path | None = None,
    false_discovery_rate: float | None = None,
    formats: Sequence[str] = (),
) -> DetectionSummary:
    """Scores files into `output/results.jsonl`, a line an image as it goes, and draws `output/heatmaps/*.png`.

    Lines that an earlier call with the same settings wrote stay, and their images are not scored again unless the files
    have changed since.

    Args:
        profile: in place of bank, object name, threshold and view: decides, and finds regions.
        maps: also keep each map as `output/maps/*.npy`, float32 (H, W) of the image's own size.
        overwrite: begin anew where `output` holds other results.
        watch: a folder whose images are scored as they appear, until Ctrl-C.
        false_discovery_rate: with a profile: of all images of `output` that are called anomalous at most this share are
            good ones, on average; labels are set anew when all are scored.
        formats: of [`adaptclip_hf.detection.formats.FORMATS`], written beside the lines when all are scored.

    Raises:
        ValueError: `output` holds results of other settings, named, or another process is writing there.
    """
    output.mkdir(parents=True, exist_ok=True)
    report = print_line if progress else print_nothing
    settings = scoring_settings(detector, prompt_bank, object_name, threshold, profile, view) | {
        "heatmaps": heatmaps,
        "maps": maps,
        "false_discovery_rate": false_discovery_rate,
    }
    options = {"prompt_bank": prompt_bank, "object_name": object_name, "threshold": threshold, "view": view}
    options |= {"profile": profile, "batch_size": batch_size}
    try:
        with FileLock(output / ".lock", timeout=0):
            begin(output, settings, overwrite)
            with ResultLines(output / RESULTS_FILE) as lines:
                run = DetectionRun(output, lines, heatmaps, maps, report, profile)
                if watch is not None:
                    summary = run.watch(watch, detector, **options)
                else:
                    summary = run.score(paths, detector, progress=progress, **options)
                if false_discovery_rate is not None:
                    run.correct_labels(false_discovery_rate, summary)
                for name in formats:
                    write_format(lines, output, name)
            return summary
    except Timeout as error:
        raise ValueError(f"Another `adaptclip detect` is writing to {output}: name another --output.") from error


def scoring_settings(
    detector: AnomalyDetector,
    prompt_bank: PromptBank | None,
    object_name: str | None,
    threshold: float | None,
    profile: InspectionProfile | None,
    view: View | None,
) -> dict:
    """All that results depend on beside the images; on which device does not matter."""
    settings = detector.describe(object_name if profile is None else profile.object_name)
    del settings["device"]
    return settings | {
        "normal_images": None if prompt_bank is None else prompt_bank.digest(),
        "threshold": threshold,
        "profile": None if profile is None else profile.summary(),
        "view": (view or View()).key() if profile is None else profile.view.key(),
    }


def begin(output: Path, settings: dict, overwrite: bool):
    """Notes the settings, or checks that what is there has the same.

    Raises:
        ValueError: names what differs.
    """
    results, advice = output / RESULTS_FILE, "name another --output, or replace it with --overwrite"
    if overwrite:
        clear(output)
    elif results.is_file() and not (output / SETTINGS_FILE).is_file():
        raise ValueError(f"{results} is there without a {SETTINGS_FILE} that says what its lines are of: {advice}.")
    keep_or_match(output / SETTINGS_FILE, settings, advice)


def clear(output: Path):
    """Removes what an earlier run wrote, and nothing else."""
    for name in (SETTINGS_FILE, DRIFT_FILE, REPORT_FILE, *FORMAT_FILES.values()):
        (output / name).unlink(missing_ok=True)
    for folder, ending in ((HEATMAP_FOLDER, "*.png"), (MAP_FOLDER, "*.npy")):
        for file in (output / folder).glob(ending):
            file.unlink()


def write_format(lines: Iterable[dict], output: Path, name: str):
    """Writes result lines in one of the formats, from beginning to end."""
    from .annotations import write_coco, write_label_studio
    from .tables import write_csv, write_parquet

    writers = {CSV: write_csv, PARQUET: write_parquet, COCO: write_coco, LABEL_STUDIO: write_label_studio}
    if name in writers:  # JSON Lines are there already
        writers[name](lines, output / FORMAT_FILES[name])


class DetectionRun:
    """The results of a folder: the lines that are there, and those that come."""

    def __init__(
        self,
        output: Path,
        lines: ResultLines,
        heatmaps: bool,
        maps: bool,
        report: Report,
        profile: InspectionProfile | None = None,
    ):
        self.output, self.lines, self.heatmaps, self.maps = output, lines, heatmaps, maps
        self.report, self.profile = report, profile
        self.drift = None if profile is None else DriftWatch(profile.calibration)
        for folder in (HEATMAP_FOLDER, MAP_FOLDER):
            for file in (output / folder).glob(f"{UNFINISHED}*"):  # of a run that was killed
                file.unlink()

    def score(
        self, paths: Iterable[Path], detector: AnomalyDetector, progress: bool = False, **options
    ) -> DetectionSummary:
        """Scores the paths that have no line yet; their lines are written as they come.

        Args:
            options: of [`AnomalyDetector.stream`].
        """
        start, summary = time.perf_counter(), DetectionSummary()
        with tempfile.TemporaryFile("w+", encoding="utf-8") as waiting:
            count = self._without_line(paths, waiting, summary)
            with tqdm(total=summary.before + count, initial=summary.before, unit="image", disable=not progress) as bar:
                begun: deque[tuple[Path, tuple]] = deque()

                def queries() -> Iterator[str]:
                    for text in waiting:
                        path = Path(json.loads(text))
                        begun.append((path, stamp_of(path)))  # as it was when it was read
                        yield str(path)

                def pass_over(name: str, error: Exception):
                    self.report(f"not read: {error}")

                view = self.profile.view if self.profile else options.get("view") or View()
                ahead = READ_AHEAD + options.get("batch_size", 1)
                photos = detector.read_ahead(queries(), ahead, view, pass_over)
                for result in detector.stream(photos, on_error=pass_over, **options):
                    line = self._line(*begun.popleft(), result)
                    self.lines.append(line)
                    summary.add(line)
                    summary.scored += result.error is None
                    self._look_for_drift(line)
                    bar.update()
        summary.seconds, summary.waited = time.perf_counter() - start, photos.waited
        return summary

    def watch(self, folder: Path, detector: AnomalyDetector, **options) -> DetectionSummary:
        """Scores the images of a folder as they appear, each once it is complete, until Ctrl-C."""
        total = DetectionSummary()
        self.report(f"watching {folder}; Ctrl-C stops")
        try:
            for paths in complete_images(folder, leave_out=self.output, known=self._is_scored):
                summary = self.score(paths, detector, **options)
                total.join(summary)
                for path in paths:
                    line = self.lines[str(path)]
                    if line["error"] is None:
                        decided = f"p {line['p_value']:.3f}  " if line["p_value"] is not None else ""
                        self.report(f"{line['score']:.4f}  {decided}{line['label'] or '':9}  {path}")
        except KeyboardInterrupt:
            self.report("stopped; started again, it goes on")
        return total

    def _is_scored(self, path: Path) -> bool:
        stamp = self.lines.stamp(str(path))
        return stamp is not None and stamp == stamp_of(path)

    def _look_for_drift(self, line: dict):
        if self.drift is None or line["error"] is not None or line["among_normals"]:
            return
        if drift := self.drift.add(line["score"]):
            self.report(f"DRIFT: {drift.describe()}")
            with (self.output / DRIFT_FILE).open("a", encoding="utf-8") as opened:
                opened.write(json.dumps({"last": line["path"], "time": time.time(), **asdict(drift)}) + "\n")

    def correct_labels(self, false_discovery_rate: float, summary: DetectionSummary):
        """Sets the labels of all lines anew, by Benjamini and Hochberg."""
        p_values = np.fromiter((line["p_value"] for line in self.lines if line["error"] is None), np.float64)
        called = iter(discoveries(p_values, false_discovery_rate))
        summary.labels = Counter()

        def label(line: dict) -> dict:
            if line["error"] is None:
                line["label"] = "anomalous" if next(called) else "normal"
                summary.labels[line["label"]] += 1
            return line

        self.lines.rewrite(label)

    def _without_line(self, paths: Iterable[Path], waiting: TextIO, summary: DetectionSummary) -> int:
        """Writes the paths to score, a line of JSON each, and tells how many; lines of changed files are taken back."""
        changed, count = [], 0
        for path in self.lines.new_ones(paths):
            if self._is_scored(path):
                summary.before += 1
                summary.add(self.lines[str(path)])
                continue
            if str(path) in self.lines:
                changed.append(str(path))
            waiting.write(json.dumps(str(path)) + "\n")
            count += 1
        waiting.seek(0)
        if changed:
            self.report(f"{len(changed)} files have changed since they were scored: they are scored again")
            self.lines.drop(changed)
        return count

    def _line(self, path: Path, stamp: tuple, result: DetectionResult) -> dict:
        """One image's line; its pictures are on disk before it is written."""
        size, modified = stamp
        line = {"path": str(path), "score": result.score, "p_value": result.p_value, "label": result.label}
        line |= {"regions": result.regions, "size": result.size, "heatmap": None, "map": None, "error": result.error}
        line |= {"among_normals": result.among_normals, "bytes": size, "modified": modified}
        if result.error is not None:
            return line
        if result.among_normals:
            self.report(f"{path} is itself among the normal images: its score says nothing")
        if self.heatmaps or self.maps:
            name = new_name(path, self.lines.names)
        if self.heatmaps:
            line["heatmap"] = str(self._saved(HEATMAP_FOLDER, f"{name}.png", result.heatmap().save))
        if self.maps:
            line["map"] = str(self._saved(MAP_FOLDER, f"{name}.npy", lambda file: np.save(file, result.anomaly_map)))
        return line

    def _saved(self, folder: str, name: str, save) -> Path:
        """A file that appears whole or not at all."""
        file = self.output / folder / name
        file.parent.mkdir(exist_ok=True)
        temporary = file.with_name(f"{UNFINISHED}{name}")
        save(temporary)
        temporary.replace(file)
        return file
