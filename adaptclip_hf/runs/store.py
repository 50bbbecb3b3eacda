"""Where the rows of a run lie: what every store does."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, ClassVar

from ..engine import Result
from ..files import locked
from .formats import FORMAT_FILES, write_format
from .index import Index

ADVICE = "name another --output, or replace it with --overwrite"


class Store(ABC):
    """Rows on disk, which can be iterated any number of times. Whatever stops a run, they are there and whole.

    Attributes:
        own_format: the one in which they lie.
        prefix: of the names of other formats' files.
        folder_here: their folder, if it is on this machine.
        written: what a run writes, for people.
    """

    own_format: ClassVar[str]
    prefix: ClassVar[str] = ""

    folder_here: Path | None
    written: str

    @abstractmethod
    def begin(self, settings: dict, overwrite: bool):
        """Keeps the settings of a new run, or checks that what is there was written with the same.

        Raises:
            ValueError: names what differs.
        """

    @abstractmethod
    def load(self, index: Index):
        """Notes all rows, and removes what a killed run left unfinished."""

    @abstractmethod
    def __iter__(self) -> Iterator[dict]:
        """All rows."""

    @abstractmethod
    def rewrite(self, change: Callable[[dict], dict | None]):
        """Replaces each row by `change` of it, and removes those for which that is `None`."""

    @abstractmethod
    def add(self, row: dict, result: Result):
        """Keeps a row, and what shall be kept of its image."""

    @abstractmethod
    def finish(self):
        """Writes what has been added and is not written yet."""

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A file beside the rows, which appears whole or not at all."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is a file beside the rows."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other process writes here meanwhile, as far as that can be known.

        Raises:
            OSError: the folder cannot be locked.
            ValueError: one does.
        """
        try:
            if self.folder_here is None:
                yield
            else:
                with locked(self.folder_here, "Another `adaptclip detect`"):
                    yield
        finally:
            self.close()

    def close(self):
        if "index" in vars(self):
            self.index.close()

    @cached_property
    def index(self) -> Index:
        """What has a row, and what waits."""
        index = Index()
        self.load(index)
        return index

    def take_back_waiting(self):
        """Removes the rows of images that wait to be scored again."""
        self.rewrite(lambda row: None if self.index.is_waiting(row["path"]) else row)
        self.load(self.index)

    def write_formats(self, asked: Sequence[str]):
        """Writes the formats that are asked for, and those of an earlier call, which would lack what came since."""
        for name, file in FORMAT_FILES.items():
            if name != self.own_format and (name in asked or self.has(self.prefix + file)):
                with self.writing(self.prefix + file) as opened:
                    write_format(name, self, opened)
