"""What a run has to do: the images that have no row yet, and those whose files have changed since."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .sources import Source
from .store import Store
from .summary import RunSummary


@dataclass(frozen=True)
class Plan:
    """
    Attributes:
        before: the images that are asked for and have a row.
        waiting: how many wait.
        changed: how many of them had a row, and changed since.
    """

    before: RunSummary = field(default_factory=RunSummary)
    waiting: int = 0
    changed: int = 0


def make_plan(sources: Iterable[Source], store: Store) -> Plan:
    """Lists the images into the store's index, and takes back the rows of files that have changed.

    Raises:
        FileNotFoundError, ValueError: as [`Sources`].
    """
    before, waiting, changed, index = RunSummary(), 0, 0, store.index
    index.begin_listing()
    for source in sources:
        row = index.find(source.path)
        waits = row is None or source.has_changed((row["bytes"], row["modified"]))
        if not index.want(source, waits):
            continue
        waiting += waits
        changed += waits and row is not None
        if not waits:
            before.before += 1
            before.add(row)
    if changed:
        store.take_back_waiting()
    return Plan(before, waiting, changed)
