"""A run over many images; stopped anywhere, it goes on from there."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from operator import itemgetter
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from ..inspection import discoveries
from ..labels import ANOMALOUS, NORMAL, NOT_INSPECTABLE, SCORE
from ..passed_over import PassedOver
from ..reporting import Report
from ..stopping import stopped_by_signals
from .executor import Executor, OnRow
from .part_labels import label_parts
from .rows import is_decided
from .sources import Source
from .store import Store
from .summary import SHOWN, RunSummary
from .watching import FolderWatch

Deliver = Callable[[], AbstractContextManager[None]]


class Run:
    """Who does what is asked for, and where the rows go.

    Args:
        report: called with lines for people.
        progress: show a bar.
        deliver: gives a context in which decisions are delivered while images are scored.
    """

    def __init__(
        self, executor: Executor, store: Store, report: Report, progress: bool = True, deliver: Deliver = nullcontext
    ):
        self.executor, self.store, self.report, self.progress, self.deliver = executor, store, report, progress, deliver
        self.spec = executor.spec

    def run(self, sources: Iterable[Source], overwrite: bool = False) -> RunSummary:
        """Scores images. Those that have a row are not scored again unless their files have changed since.

        Args:
            overwrite: start again if the store holds other results.

        Raises:
            ValueError: the store holds results of other settings, named.
            OSError: another process is writing there.
            KeyboardInterrupt: it was stopped, also by SIGTERM; what was scored is kept, in each format.
        """
        with stopped_by_signals(), self.store.locked():
            self.store.begin(self.spec.settings(self.executor.scorer), overwrite)
            try:
                with self.deliver():
                    summary = self.score(sources)
            except KeyboardInterrupt:
                self.store.write_formats(self.spec.formats, self.spec.addresses)
                raise
            if self.spec.false_discovery_rate is not None:
                by_parts = self.spec.usual_part is not None
                correct_labels(self.store, self.spec.false_discovery_rate, summary, by_parts)
            self._label_parts(summary)
            self.store.write_formats(self.spec.formats, self.spec.addresses)
        return summary

    def watch(self, folder: Path, overwrite: bool = False, passed_over: PassedOver | None = None) -> RunSummary:
        """Scores the images of a folder here as they appear, each once it is complete, until Ctrl-C or SIGTERM.

        Args:
            passed_over: counts and tells what is passed over.
        """
        total = RunSummary()
        unread: dict[str, None] = {}

        def tell(row: dict):
            self._tell(row)
            unread.pop(row["path"], None)
            if row["error"] is not None:
                unread[row["path"]] = None

        with stopped_by_signals(), self.store.locked():
            self.store.begin(self.spec.settings(self.executor.scorer), overwrite)
            self.report(f"watching {folder}; Ctrl-C stops")
            try:
                watch = FolderWatch(folder, self._is_scored, self.store.folder_here, passed_over, self.report)
                with self.deliver():
                    for paths in watch.complete_images():
                        total.join(self.score([Source(str(path)) for path in paths], tell))
            except KeyboardInterrupt:
                self.report("stopped; started again, it goes on")
            self._label_parts(total, awaiting=True)
            self.store.write_formats(self.spec.formats, self.spec.addresses)
        total.unreadable, total.failed = len(unread), list(unread)[:SHOWN]  # what was read later is not among them
        return total

    def score(self, sources: Iterable[Source], on_row: OnRow | None = None) -> RunSummary:
        """Scores some images.

        Args:
            on_row: called with each row, where the executor has it; in place of a bar.
        """
        start = time.perf_counter()
        plan = self.executor.plan(sources, self.store)
        if plan.changed:
            self.report(f"{plan.changed} files have changed since they were scored: they are scored again")
        summary = plan.before
        total = summary.before + plan.waiting
        shown = self.progress and on_row is None
        with tqdm(total=total, initial=summary.before, unit="image", disable=not shown) as bar:
            try:
                with closing(self.executor.work(self.store, on_row)) as pieces:  # which ends its thread
                    for done in pieces:
                        summary.join(done)
                        bar.update(done.scored + done.unreadable)
            finally:  # also after Ctrl-C: what was scored is kept
                self.store.finish()
        summary.seconds = time.perf_counter() - start
        return summary

    def _label_parts(self, summary: RunSummary, awaiting: bool = False):
        if (usual := self.spec.usual_part) is not None:
            summary.parts = label_parts(self.store, usual, awaiting).describe()

    def _is_scored(self, path: Path) -> bool:
        source, index = Source(str(path)), self.store.index
        row = index.find(source)
        return row is not None and index.is_current(source, row)

    def _tell(self, row: dict):
        if row["error"] is None:
            place = self.spec.reference.place_of(row["score"])
            why = f"({row['reason']})" if row["label"] == NOT_INSPECTABLE else place
            part = row["part_label"] and f"(its part: {row['part_label']})"
            words = (f"{row['score']:.4f}", f"{row['label'] or '':9}", why, row["path"], part)
            self.report("  ".join(filter(None, words)))


def correct_labels(store: Store, false_discovery_rate: float, summary: RunSummary, by_parts: bool = False):
    """Sets the labels of all rows again, by Benjamini and Hochberg, and those of the summary.

    Images that are not inspectable stay so.

    Args:
        by_parts: of the parts that are called anomalous at most this share are good; an image is anomalous where its
            part would be by it alone.
    """
    p_values = (
        p_values_of_parts(store) if by_parts else np.fromiter(map(itemgetter("p_value"), inspected(store)), np.float64)
    )
    limit = p_values[discoveries(p_values, false_discovery_rate)].max(initial=0.0)
    summary.labels = Counter()
    corrected = {path: label for _, label, path in summary.highest}

    def label(row: dict) -> dict:
        if row["error"] is not None:
            return row
        if not is_decided(row):
            summary.labels[row["label"]] += 1
            return row
        label = ANOMALOUS if row["p_value"] <= limit else NORMAL
        summary.labels[label] += 1
        if row["path"] in corrected:
            corrected[row["path"]] = label
        return row | {"label": label, "reason": (row.get("reason") or SCORE) if label == ANOMALOUS else None}

    store.rewrite(label)
    summary.highest = [(score, corrected[path], path) for score, _, path in summary.highest]


def inspected(store: Store) -> Iterator[dict]:
    """The rows of images that could be read and inspected."""
    return filter(is_decided, store)


def p_values_of_parts(store: Store) -> np.ndarray:
    """The p-value of each part, which is that of its highest score: the lowest of its images."""
    lowest: dict[str | int, float] = {}
    for number, row in enumerate(inspected(store)):
        part = number if row["part"] is None else row["part"]
        lowest[part] = min(row["p_value"], lowest.get(part, 1.0))
    return np.fromiter(lowest.values(), np.float64)
