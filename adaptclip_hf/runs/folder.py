"""A folder at any address that fsspec knows: on this machine, in S3 or another store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ..files import whole_file
from ..image_files import OURS, reason_against, reason_against_file
from ..own_files import PICTURES
from ..passed_over import OnPassedOver, pass_silently


def is_remote(address: str) -> bool:
    return "://" in address and not address.startswith("file://")


class Folder:
    """A folder by its path or address. It need not be there.

    Attributes:
        system, root: the file system, and the path within it.

    Raises:
        ValueError: an address of no system that is known here.
    """

    def __init__(self, address: str):
        try:
            self.system, root = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{address} cannot be reached: {error}") from error
        self.address, self.root, self.is_local = address, root.rstrip("/"), isinstance(self.system, LocalFileSystem)

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

    def has(self, name: str) -> bool:
        return self.system.exists(f"{self.root}/{name}")

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write, which appears whole or not at all."""
        if self.is_local:
            with whole_file(Path(self.root, name)) as opened:
                yield opened
        else:
            with NamedTemporaryFile() as opened:
                yield opened
                opened.flush()
                self.system.put_file(opened.name, f"{self.root}/{name}")

    def write(self, name: str, content: bytes):
        """Writes a file, which appears whole or not at all."""
        with self.writing(name) as opened:
            opened.write(content)

    def remove(self, name: str):
        """Removes a file, or a folder and all in it."""
        if self.has(name):
            self.system.rm(f"{self.root}/{name}", recursive=True)

    def walk(self, passed_over: OnPassedOver = pass_silently) -> Iterator[dict]:
        """The images below, as fsspec describes them; sorted within each folder.

        Args:
            passed_over: called with the address of what is passed over, as in [`FolderWalk`], and the reason.
        """

        def is_meant(entry: dict, reason: str | None) -> bool:
            if reason is not None:
                passed_over(entry["name"], reason)
            return reason is None

        def unlisted(error: OSError):
            passed_over(str(error), "cannot be listed")

        for folder, folders, files in self.system.walk(self.root, detail=True, on_error=unlisted):
            for name in sorted(folders):
                if not is_meant(folders[name], reason_against(name) or self._is_own(folder, name)):
                    del folders[name]  # the walk does not go there
            for name in sorted(files):
                if is_meant(files[name], reason_against_file(name)):
                    yield files[name]

    def _is_own(self, folder: str, name: str) -> str | None:
        """Why a subfolder is passed over: it holds pictures of ours."""
        return OURS if any(self.system.isfile(f"{folder}/{mark}") for mark in PICTURES.get(name, ())) else None
