"""What a published layout is to the rest: a description, a way to recognise it, a way to read it."""

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
        read: (folder, report) -> rows; what is missing or does not fit is passed to `report` and left out or kept as
            the report says.
    """

    description: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path, Report], Iterator[Row]]


__all__ = ["Layout", "Report"]
