"""A folder at any address that fsspec knows: on this machine, in S3 or another store."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ..files import whole_file


def is_remote(address: str) -> bool:
    return "://" in address and not address.startswith("file://")


@dataclass(frozen=True)
class Folder:
    """A folder by its path or address. It need not be there."""

    address: str

    @cached_property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            system, root = fsspec.core.url_to_fs(self.address)
            return system, root.rstrip("/")
        except (ImportError, ValueError) as error:
            raise ValueError(f"{self.address} cannot be reached: {error}") from error

    @property
    def system(self) -> fsspec.AbstractFileSystem:
        return self._opened[0]

    @property
    def root(self) -> str:
        """The path within its system."""
        return self._opened[1]

    @property
    def is_local(self) -> bool:
        return isinstance(self.system, LocalFileSystem)

    def names(self, pattern: str) -> list[str]:
        """Names of the files in this folder that match, sorted."""
        self.system.invalidate_cache()
        return sorted(path.rpartition("/")[2] for path in self.system.glob(f"{self.root}/{pattern}"))

    def read(self, name: str) -> bytes | None:
        """The content of a file; `None` where there is none."""
        try:
            return self.system.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None

    def writing(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file to write, which appears whole or not at all."""
        if self.is_local:
            return whole_file(Path(self.root, name))
        return self.system.open(f"{self.root}/{name}", "wb")  # stores show an object when all of it is there

    def write(self, name: str, content: bytes):
        """Writes a file, which appears whole or not at all."""
        if self.is_local:
            with self.writing(name) as opened:
                opened.write(content)
        else:
            self.system.pipe_file(f"{self.root}/{name}", content)

    def remove(self, name: str):
        """Removes a file, or a folder and all in it."""
        if self.system.exists(f"{self.root}/{name}"):
            self.system.rm(f"{self.root}/{name}", recursive=True)

    def walk(self) -> Iterator[dict]:
        """All files below, as fsspec describes them, but for hidden ones; sorted within each folder."""
        for _, _, files in self.system.walk(self.root, detail=True):
            for file in sorted(files.values(), key=lambda each: each["name"]):
                if not any(part.startswith(".") for part in file["name"].removeprefix(self.root).split("/")):
                    yield file
