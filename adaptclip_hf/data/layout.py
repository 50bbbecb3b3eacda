"""A published layout: what it looks like, how to recognise it, how to read it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..reporting import Report
from .rows import Row


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        description: what is expected, for help and errors.
        recognise: whether a folder unambiguously has this layout.
        read: (folder, report) -> rows. What is missing or does not fit is passed to `report`, a line each, which says
            whether the row is left out.
        left_out: patterns of folders below that are meant to be left out, in lower case. Images elsewhere
            that no row has are reported by folder; `None` where other images are no fault, as beside a list.
    """

    description: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path, Report], Iterator[Row]]
    left_out: tuple[str, ...] | None = None


__all__ = ["Layout", "Report"]
