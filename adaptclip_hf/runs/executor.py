"""Who does the work of a run: what it has to do, and the scoring."""

import math
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count, islice
from typing import Protocol

from ..engine import AnomalyScorer, Result, UnreadableImage
from ..engine.images import LoadedImage, OnError, ReadImage
from ..engine.prefetch import Prefetch
from ..engine.reference import PreparedReference
from ..reporting import Report
from .part_labels import label_so_far
from .rows import row_of
from .sources import Source, read_sources, refused_for_memory
from .spec import RunSpec
from .stamps import Stamp, identity
from .store import Store
from .summary import RunSummary

READ_AHEAD = 4  # images, beside a batch
MOST_PIXELS = 64_000_000  # that are read ahead, so that large photos are in memory one after the other
PAGE = 256  # waiting images that are asked for at a time

OnRow = Callable[[dict], None]


@dataclass
class Plan:
    """What a run has to do.

    Attributes:
        before: the images that are asked for and have a row.
        waiting: how many wait.
        changed: how many of them have a row, and files that have changed since.
    """

    before: RunSummary = field(default_factory=RunSummary)
    waiting: int = 0
    changed: int = 0


def make_plan(sources: Iterable[Source], store: Store) -> Plan:
    """Lists the images into the store's index, and takes back the rows of files that have changed.

    Raises:
        FileNotFoundError, ValueError: as [`Sources`].
    """
    plan, index = Plan(), store.index
    index.begin_listing()
    for source in sources:
        row = index.find(source)
        moved = row is not None and source.part not in (None, row["part"])  # to another part
        waits = row is None or moved or not index.is_current(source, row)
        file = source.identity if row is None else row["file"]
        if row is not None and waits and identity(row["path"]) == source.identity:
            source = replace(source, path=row["path"])  # it is shown as it was named first
        elif row is None and index.is_named(source.path):
            source = replace(source, path=source.identity)  # another file had this name, seen from another folder
        if not index.want(source, file, plan.waiting if waits else None):
            continue
        plan.waiting += waits
        plan.changed += waits and row is not None
        if row is not None and not waits:
            plan.before.before += 1
            plan.before.add(row)
    if plan.changed:
        store.take_back_waiting()
    return plan


def pixels_of(image: ReadImage) -> int:
    """How many pixels of an image are in memory."""
    return math.prod(image.image.size) if isinstance(image, LoadedImage) else 0


class Executor(Protocol):
    """Plans the work (see [`make_plan`]) and does it: `work` yields the summary of each piece that is done."""

    spec: RunSpec
    scorer: AnomalyScorer

    def plan(self, sources: Iterable[Source], store: Store) -> Plan: ...

    def work(self, store: Store, on_row: OnRow | None = None) -> Generator[RunSummary]: ...


class Here(Executor):
    """Scores, draws and writes in this process, image by image; a thread reads ahead.

    Another thread that draws meanwhile costs more than it saves: the threads of a product, one for each core, wait for
    the one whose core it takes.
    """

    def __init__(self, spec: RunSpec, scorer: AnomalyScorer, report: Report):
        self.spec, self.scorer, self.report = spec, scorer, report

    @cached_property
    def reference(self) -> PreparedReference:
        return self.scorer.prepare(self.spec.reference)

    def plan(self, sources: Iterable[Source], store: Store) -> Plan:
        return make_plan(sources, store)

    def work(self, store: Store, on_row: OnRow | None = None) -> Generator[RunSummary]:
        begun: deque[tuple[Source, Stamp]] = deque()

        def waiting() -> Iterator[Source]:
            for first in count(0, PAGE):
                page = store.index.waiting(first, PAGE)
                for source in page:
                    begun.append((source, source.whole_stamp()))  # as it was when it was read
                    yield source
                if len(page) < PAGE:
                    return

        read = read_sources(self.scorer.reader, waiting(), self.spec.reference.view, self._pass_over)
        prefetch = Prefetch(read, READ_AHEAD + self.spec.batch_size, pixels_of, MOST_PIXELS)

        def scored() -> Iterator[Result]:
            images = map(lambda image: (image, self.reference), prefetch)  # which holds no image, as a generator would
            while batch := list(islice(images, self.spec.batch_size)):
                yield from score_each(self.scorer, batch, self._pass_over)
                del batch  # before the next ones are read: they may be large

        def kept(result: Result) -> RunSummary:
            row = self._keep(store, *begun.popleft(), result)
            if row["among_normals"]:
                among = "among the normal images" if row["profile"] is None else "one of the profile's photos"
                self.report(f"{row['path']} is itself {among}: its score says nothing")
            if on_row is not None:
                on_row(row)
            return RunSummary.of([row])

        yield from map(kept, scored())
        yield RunSummary(waited=prefetch.waited)

    def _keep(self, store: Store, source: Source, stamp: Stamp, result: Result) -> dict:
        """The row of a result, which is in the store; its error where the memory does not suffice for its pictures."""
        path, part = source.path, self.spec.part_of(source)
        row = row_of(path, stamp, result, part, self.spec.profile, self.scorer.dtype)
        if part is not None and self.spec.usual_part is not None:
            row["part_label"] = label_so_far(store.index.of_part(part), row, self.spec.usual_part)
        try:
            store.add(row, result)
        except MemoryError:
            refused = refused_for_memory(path)
            self._pass_over(path, refused)
            unreadable = UnreadableImage(path, str(refused))
            row = row_of(path, stamp, unreadable, part, self.spec.profile)
            store.add(row, unreadable)
        return row

    def _pass_over(self, name: str, error: Exception):
        self.report(f"not read: {error}")


def score_each(
    scorer: AnomalyScorer, batch: Sequence[tuple[ReadImage, PreparedReference]], on_error: OnError
) -> Iterator[Result]:
    """As [`AnomalyScorer.score_images`], but an image for which the memory does not suffice ends only itself."""
    done = 0
    try:
        for result in scorer.score_images(batch, on_error):
            yield result
            done += 1
        return
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    if len(batch) > 1:
        for each in batch[done:]:
            yield from score_each(scorer, [each], on_error)
    else:
        [(image, _)] = batch
        refused = refused_for_memory(image.name)
        on_error(image.name, refused)
        yield UnreadableImage(image.name, str(refused))


def is_out_of_memory(error: Exception) -> bool:
    """torch raises RuntimeErrors too: of its own kind on a GPU, and with a text on a CPU."""
    torch = sys.modules.get("torch")
    of_torch = torch is not None and isinstance(error, torch.OutOfMemoryError)
    return of_torch or isinstance(error, MemoryError) or "can't allocate memory" in str(error)
