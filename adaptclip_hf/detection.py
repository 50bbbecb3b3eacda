"""The run behind `adaptclip detect`: many images, one line each as it goes; stopped anywhere, it goes on from there."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from heapq import nlargest
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from .annotations import ANNOTATION_FILES, write_annotations
from .engine import AnomalyDetector, DetectionResult, View
from .files import new_name, write_whole
from .inspection import InspectionProfile, discoveries
from .inspection.drift import DriftWatch
from .modeling.prompt_bank import PromptBank
from .reporting import Report, say, say_nothing
from .run_settings import keep_or_match
from .watching import complete_images

RESULTS_FILE = "results.jsonl"
REPORT_FILE = "report.html"
SETTINGS_FILE = "detect.json"
HEATMAP_FOLDER = "heatmaps"
MAP_FOLDER = "maps"
DRIFT_FILE = "drift.jsonl"
UNFINISHED = ".unfinished-"
READ_AHEAD = 4
WORTH_A_SHARE = 20  # images
SHOWN = 10


@dataclass
class DetectionSummary:
    """What a run came to.

    Attributes:
        scored, unreadable: how many images of this call.
        before: how many of its images had been scored by an earlier call.
        labels: how many of each.
        highest: (score, label, path) of the highest scores.
        lowest: the lowest score.
        failures: (path, reason) of each file that could not be read.
        seconds: of the whole run.
        waited: seconds of them in which the model waited for an image to be read.
    """

    scored: int = 0
    before: int = 0
    labels: Counter = field(default_factory=Counter)
    highest: list[tuple[float, str, str]] = field(default_factory=list)
    lowest: float = 1.0
    failures: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, line: dict):
        if line["error"] is not None:
            self.failures.append((line["path"], line["error"]))
            return
        self.labels[line["label"]] += 1
        self.lowest = min(self.lowest, line["score"])
        self.highest = nlargest(SHOWN, [*self.highest, (line["score"], line["label"] or "", line["path"])])

    def join(self, other: "DetectionSummary"):
        """Adds what came to another call of the same run."""
        self.scored += other.scored
        self.labels += other.labels
        self.highest = nlargest(SHOWN, [*self.highest, *other.highest])
        self.lowest = min(self.lowest, other.lowest)
        self.failures += other.failures
        self.seconds += other.seconds
        self.waited += other.waited

    def describe(self) -> str:
        """A few lines for people: how many, how fast, the highest scores, what failed."""
        total = sum(self.labels.values())
        lines = [f"{self.scored} images in {self.seconds:.1f} s ({self.seconds / max(1, self.scored):.2f} s an image)"]
        if self.scored >= WORTH_A_SHARE:
            lines[0] += f", {self.waited / self.seconds:.0%} of it waiting for files"
        if self.before:
            lines[0] += f", {self.before} scored before"
        if self.labels.keys() - {None}:
            lines[0] += f": {self.labels['anomalous']} anomalous, {self.labels['normal']} normal"
        if self.highest:
            lines.append("highest scores:" if total > len(self.highest) else "scores:")
            lines += [f"  {score:.4f}  {label:9}  {path}" for score, label, path in self.highest]
        if total > len(self.highest):
            lines.append(f"  ... {total - len(self.highest)} more, down to {self.lowest:.4f}")
        if self.failures:
            names = ", ".join(path for path, _ in self.failures[:SHOWN])
            more = f" and {len(self.failures) - SHOWN} more" if len(self.failures) > SHOWN else ""
            lines.append(f"{len(self.failures)} files could not be read: {names}{more}")
        return "\n".join(lines)


def detect_files(
    detector: AnomalyDetector,
    paths: list[Path],
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
        formats: of [`adaptclip_hf.annotations.FORMATS`], written beside the lines when all are scored.

    Raises:
        ValueError: `output` holds results of other settings, named, or another process is writing there.
    """
    output.mkdir(parents=True, exist_ok=True)
    report = say if progress else say_nothing
    settings = detector.describe(object_name if profile is None else profile.object_name) | {
        "normal_images": None if prompt_bank is None else prompt_bank.digest(),
        "threshold": threshold,
        "profile": None if profile is None else profile.summary(),
        "view": (view or View()).key() if profile is None else profile.view.key(),
        "heatmaps": heatmaps,
        "maps": maps,
        "false_discovery_rate": false_discovery_rate,
    }
    settings.pop("device")
    options = {"prompt_bank": prompt_bank, "object_name": object_name, "threshold": threshold, "view": view}
    options |= {"profile": profile, "batch_size": batch_size}
    try:
        with FileLock(output / ".lock", timeout=0):
            begin(output, settings, overwrite)
            run = DetectionRun(output, heatmaps, maps, report, profile)
            if watch is not None:
                summary = run.watch(watch, detector, **options)
            else:
                summary = run.score(paths, detector, progress=progress, **options)
            if false_discovery_rate is not None:
                run.correct_labels(false_discovery_rate, summary)
            for name in formats:
                write_annotations(run.lines.values(), output, name)
            return summary
    except Timeout as error:
        raise ValueError(f"Another `adaptclip detect` is writing to {output}: name another --output.") from error


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
    for name in (SETTINGS_FILE, RESULTS_FILE, DRIFT_FILE, REPORT_FILE, *ANNOTATION_FILES.values()):
        (output / name).unlink(missing_ok=True)
    for folder, ending in ((HEATMAP_FOLDER, "*.png"), (MAP_FOLDER, "*.npy")):
        for file in (output / folder).glob(ending):
            file.unlink()


class DetectionRun:
    """The results of a folder: the lines that are there, and those that come."""

    def __init__(
        self, output: Path, heatmaps: bool, maps: bool, report: Report, profile: InspectionProfile | None = None
    ):
        self.output, self.heatmaps, self.maps, self.report, self.profile = output, heatmaps, maps, report, profile
        self.drift = None if profile is None else DriftWatch(profile.calibration)
        self.file = output / RESULTS_FILE
        self.lines = {line["path"]: line for line in self._read_lines()}
        self.names = {Path(each).stem.lower() for line in self.lines.values() for each in files_of(line)}
        for folder in (HEATMAP_FOLDER, MAP_FOLDER):
            for file in (output / folder).glob(f"{UNFINISHED}*"):  # of a run that was killed
                file.unlink()

    def score(
        self, paths: list[Path], detector: AnomalyDetector, progress: bool = False, **options
    ) -> DetectionSummary:
        """Scores the paths that have no line yet; their lines are written as they come.

        Args:
            options: of [`AnomalyDetector.stream`].
        """
        start, summary = time.perf_counter(), DetectionSummary()
        waiting = self._without_line(paths, summary)
        with (
            tqdm(total=len(paths), initial=len(paths) - len(waiting), unit="image", disable=not progress) as bar,
            self.file.open("a", encoding="utf-8") as opened,
        ):
            stamps: dict[Path, list] = {}

            def queries() -> Iterator[str]:
                for path in waiting:
                    stamps[path] = stamp(path)  # as it was when it was read
                    yield str(path)

            def pass_over(name: str, error: Exception):
                self.report(f"not read: {error}")

            view = self.profile.view if self.profile else options.get("view") or View()
            count = READ_AHEAD + options.get("batch_size", 1)
            photos = detector.read_ahead(queries(), count, view, pass_over)
            results = detector.stream(photos, on_error=pass_over, **options)
            for path, result in zip(waiting, results, strict=True):
                line = self._line(path, result, stamps.pop(path))
                opened.write(json.dumps(line) + "\n")
                opened.flush()
                self.lines[str(path)] = line
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
        return str(path) in self.lines and stamp(path) == self._stamp(str(path))

    def _look_for_drift(self, line: dict):
        if self.drift is None or line["error"] is not None or line["among_normals"]:
            return
        if drift := self.drift.add(line["score"]):
            self.report(f"DRIFT: {drift.describe()}")
            with (self.output / DRIFT_FILE).open("a", encoding="utf-8") as opened:
                opened.write(json.dumps({"last": line["path"], "time": time.time(), **asdict(drift)}) + "\n")

    def correct_labels(self, false_discovery_rate: float, summary: DetectionSummary):
        """Sets the labels of all lines anew, by Benjamini and Hochberg."""
        scored = [line for line in self.lines.values() if line["error"] is None]
        for line, anomalous in zip(
            scored, discoveries([line["p_value"] for line in scored], false_discovery_rate), strict=True
        ):
            line["label"] = "anomalous" if anomalous else "normal"
        self._write_lines()
        summary.labels = Counter(line["label"] for line in scored)

    def _write_lines(self):
        write_whole(self.file, "".join(json.dumps(line) + "\n" for line in self.lines.values()).encode())

    def _without_line(self, paths: list[Path], summary: DetectionSummary) -> list[Path]:
        """The paths to score; lines of files that have changed since are taken back."""
        changed = {str(path) for path in paths if str(path) in self.lines and stamp(path) != self._stamp(str(path))}
        if changed:
            self.report(f"{len(changed)} files have changed since they were scored: they are scored again")
            for name in changed:
                for file in files_of(self.lines.pop(name)):
                    Path(file).unlink(missing_ok=True)
                    self.names.discard(Path(file).stem.lower())
            self._write_lines()
        for path in paths:
            if str(path) in self.lines:
                summary.before += 1
                summary.add(self.lines[str(path)])
        return [path for path in paths if str(path) not in self.lines]

    def _stamp(self, path: str) -> list:
        return [self.lines[path]["bytes"], self.lines[path]["modified"]]

    def _line(self, path: Path, result: DetectionResult, stamped: list) -> dict:
        """One image's line; its pictures are on disk before it is written."""
        size, modified = stamped
        line = {"path": str(path), "score": result.score, "p_value": result.p_value, "label": result.label}
        line |= {"regions": result.regions, "size": result.size, "heatmap": None, "map": None, "error": result.error}
        line |= {"among_normals": result.among_normals, "bytes": size, "modified": modified}
        if result.error is not None:
            return line
        if result.among_normals:
            self.report(f"{path} is itself among the normal images: its score says nothing")
        if self.heatmaps or self.maps:
            name = new_name(path, self.names)
            self.names.add(name.lower())
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

    def _read_lines(self) -> Iterator[dict]:
        """The whole lines that are there; a last one that was cut off is cut away."""
        if not self.file.is_file():
            return
        content = self.file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            write_whole(self.file, whole)
        for number, text in enumerate(whole.decode("utf-8").splitlines(), start=1):
            try:
                line = json.loads(text)
                line["path"], line["bytes"], line["modified"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.file}, line {number}, is not of `adaptclip detect` ({error!r}): remove it, or --overwrite."
                ) from error
            yield line


def files_of(line: dict) -> list[str]:
    return [line[name] for name in ("heatmap", "map") if line.get(name)]


def stamp(path: Path) -> list:
    """Size and time of a file's last change, by which a changed one is known."""
    if not path.is_file():
        return [None, None]
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
