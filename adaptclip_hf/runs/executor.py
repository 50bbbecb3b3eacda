"""Who does the work of a run."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import islice
from typing import Protocol

from ..engine import AnomalyScorer
from ..engine.prefetch import Prefetch
from ..engine.reference import PreparedReference
from ..reporting import Report
from .plan import Plan, make_plan
from .rows import row_of
from .sources import Source, Stamp, read_sources
from .spec import RunSpec
from .store import Store
from .summary import RunSummary

READ_AHEAD = 4  # images, beside a batch

OnRow = Callable[[dict], None]


class Executor(Protocol):
    """Scores what is asked for, into a store."""

    spec: RunSpec
    scorer: AnomalyScorer

    def plan(self, sources: Iterable[Source], store: Store) -> Plan:
        """Finds out what is to be done; nothing of it is held in memory."""

    def work(self, store: Store, on_row: OnRow | None = None) -> Iterator[RunSummary]:
        """Does what was planned; yields the summary of each piece that is done.

        Args:
            on_row: called with each row, where rows come to this process.
        """


class Here(Executor):
    """Scores in this process, image by image; a thread reads ahead."""

    def __init__(self, spec: RunSpec, scorer: AnomalyScorer, report: Report):
        self.spec, self.scorer, self.report = spec, scorer, report

    @cached_property
    def reference(self) -> PreparedReference:
        return self.scorer.prepare(self.spec.reference)

    def plan(self, sources: Iterable[Source], store: Store) -> Plan:
        return make_plan(sources, store)

    def work(self, store: Store, on_row: OnRow | None = None) -> Iterator[RunSummary]:
        begun: deque[tuple[str, Stamp]] = deque()

        def pass_over(name: str, error: Exception):
            self.report(f"not read: {error}")

        def waiting() -> Iterator[Source]:
            for source in store.index.waiting():
                begun.append((source.path, source.stamp()))  # as it was when it was read
                yield source

        read = read_sources(self.scorer.reader, waiting(), self.spec.reference.view, pass_over)
        prefetch = Prefetch(read, READ_AHEAD + self.spec.batch_size)
        images = ((image, self.reference) for image in prefetch)
        while batch := list(islice(images, self.spec.batch_size)):
            for result in self.scorer.score_images(batch, pass_over):
                row = row_of(*begun.popleft(), result)
                store.add(row, result)
                if row["among_normals"]:
                    self.report(f"{row['path']} is itself among the normal images: its score says nothing")
                if on_row is not None:
                    on_row(row)
                yield RunSummary.of([row])
        yield RunSummary(waited=prefetch.waited)
