"""Where the rows of a run lie: what every store does."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import IO, ClassVar

from ..engine import Result
from ..files import as_json, locked
from ..resume import require_same
from .formats import FORMAT_FILES, write_format
from .index import Index
from .label_studio import ImageAddresses

WRITTEN = "formats"  # in the settings: the formats that are written beside the rows
ADDRESSES = "label_studio"  # in the settings: where Label Studio finds the images
ADVICE = "go on as it was begun, name another --output, or replace it with --overwrite"


class Store(ABC):
    """Rows on disk, which can be iterated any number of times. Whatever stops a run, they are there and whole.

    Attributes:
        own_format: the one in which they lie.
        prefix: of the names of other formats' files.
        folder_here: their folder, if it is on this machine.
        place: their folder, for messages.
        written: what a run writes, for people.
    """

    own_format: ClassVar[str]
    prefix: ClassVar[str] = ""

    folder_here: Path | None
    place: str
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

    @abstractmethod
    def read_settings(self) -> dict | None:
        """The settings of the run that wrote what is here; `None` where there are none.

        Raises:
            ValueError: they are damaged; names the file.
        """

    @abstractmethod
    def write_settings(self, settings: dict): ...

    def keep_or_match(self, settings: dict):
        """Keeps the settings of a new run, or checks that the run that is here has the same.

        Raises:
            ValueError: names what differs.
        """
        if (found := self.read_settings()) is not None:
            require_same(found, settings, self.place, ADVICE)
        else:
            self.write_settings(as_json(settings) | {WRITTEN: []})

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

    def write_formats(self, asked: Sequence[str], addresses: ImageAddresses | None = None):
        """Writes the formats that are asked for, and those of an earlier call, which would lack what came since.

        The settings say which an earlier call wrote, so that no file of somebody else is taken for one.

        Args:
            addresses: where Label Studio finds the images; by default as an earlier call said.

        Raises:
            ValueError: an image lies elsewhere than where Label Studio finds images.
        """
        settings = self.read_settings() or {}
        known = settings.get(WRITTEN)
        if not isinstance(known, list):  # of an earlier version
            known = [name for name, file in FORMAT_FILES.items() if self.has(self.prefix + file)]
        names = [name for name in FORMAT_FILES if name != self.own_format and name in [*known, *asked]]
        addresses = addresses or ImageAddresses.noted(settings.get(ADDRESSES))
        noted = {WRITTEN: names} | ({} if addresses.prefix is None else {ADDRESSES: asdict(addresses)})
        if noted != {name: settings.get(name) for name in noted}:
            self.write_settings(settings | noted)
        for name in names:
            with self.writing(self.prefix + FORMAT_FILES[name]) as opened:
                write_format(name, self, opened, addresses)
