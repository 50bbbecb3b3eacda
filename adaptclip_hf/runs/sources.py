"""The images of a run: files, folders, patterns and lists on this machine, and what lies at other addresses."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import fsspec

from ..engine import UnreadableImage, View
from ..engine.images import ImageReader, LoadedImage, OnError
from ..image_files import ImageFiles, images_below, is_image_name
from .folder import Folder, is_remote

LISTS = (".txt", ".csv", ".parquet")

Stamp = tuple[int | None, int | None]  # size and time of the last change in ns; a file that is not there has none
UNKNOWN: Stamp = (-1, -1)


@dataclass(frozen=True)
class Source:
    """An image that is asked for.

    Attributes:
        path: path or address; a name that is in no encoding has surrogates.
        listed: the stamp of an image elsewhere, as the listing of its folder told it.
    """

    path: str
    listed: Stamp = UNKNOWN

    def stamp(self) -> Stamp:
        """Tells a changed file from what it was."""
        if is_remote(self.path):
            return self.listed
        file = Path(self.path)
        if not file.is_file():
            return None, None
        status = file.stat()
        return status.st_size, status.st_mtime_ns

    def has_changed(self, before: Stamp) -> bool:
        now = self.stamp()
        return UNKNOWN not in (before, now) and now != before

    def content(self) -> str | dict:
        """What `load_image` reads: a path, or the bytes of what lies elsewhere.

        Raises:
            OSError: they cannot be fetched.
        """
        if not is_remote(self.path):
            return self.path
        try:
            with fsspec.open(self.path, "rb") as opened:
                return {"path": self.path, "bytes": opened.read()}
        except FileNotFoundError as error:
            raise FileNotFoundError(f"No such image file: {self.path}") from error
        except Exception as error:  # whatever a store's client raises
            raise OSError(f"{self.path} cannot be fetched: {error}") from error


def read_sources(
    reader: ImageReader, sources: Iterable[Source], view: View, on_error: OnError
) -> Iterator[LoadedImage | UnreadableImage]:
    """The images, read and resized; in the place of one that cannot be read the reason, under its path."""
    for source in sources:
        try:
            yield from reader.read_ready([source.content()], view)  # and holds none while the next one is read
        except (OSError, ValueError) as error:
            on_error(source.path, error)
            yield UnreadableImage(source.path, str(error))


@dataclass(frozen=True)
class Sources:
    """All images of a run, listed each time they are iterated.

    Attributes:
        files: on this machine.
        addresses: folders, images and lists, here or at an address that fsspec knows.
        leave_out: a folder here whose images are not meant: the run's own output.
    """

    files: ImageFiles | tuple = ()
    addresses: tuple[str, ...] = ()
    leave_out: Path | None = None

    def __iter__(self) -> Iterator[Source]:
        """
        Raises:
            FileNotFoundError, ValueError: an address where nothing is, or no image; a list without a column `path`.
        """
        for file in self.files:
            yield Source(str(file))
        for address in self.addresses:
            source = None
            for source in self._at(address):
                yield source
            if source is None:
                raise ValueError(f"{address} holds no image file.")

    def _at(self, address: str) -> Iterator[Source]:
        folder = Folder(address)
        if Path(folder.root).suffix.lower() in LISTS and folder.system.isfile(folder.root):
            yield from map(Source, listed(folder))
        elif folder.is_local and Path(folder.root).is_dir():
            path = Path(folder.root if "://" in address else address)
            yield from (Source(str(file)) for file in images_below(path, self.leave_out))
        elif folder.system.isdir(folder.root):
            scheme = address.partition("://")[0]
            for file in folder.walk():
                if is_image_name(file["name"].rpartition("/")[2]):
                    yield Source(f"{scheme}://{file['name']}", stamp_of(file))
        elif folder.system.exists(folder.root):
            yield Source(address)
        else:
            raise FileNotFoundError(f"There is nothing at {address}.")


def stamp_of(file: dict) -> Stamp:
    """Of a file as fsspec describes it; only the size where the file system gives no time."""
    changed = file.get("LastModified")
    return file["size"], int(changed.timestamp() * 1e9) if isinstance(changed, datetime) else None


def listed(file: Folder) -> Iterator[str]:
    """What a list names: a text of an address a line, or a CSV or Parquet file with a column `path`."""
    kind = Path(file.root).suffix.lower()
    if kind == ".parquet":
        from pyarrow import parquet

        with file.system.open(file.root, "rb") as opened:
            table = parquet.ParquetFile(opened)
            require_column(file.address, table.schema_arrow.names)
            for batch in table.iter_batches(columns=["path"]):
                yield from batch.column("path").to_pylist()
        return
    with file.system.open(file.root, "r", encoding="utf-8", newline="") as opened:
        if kind == ".csv":
            rows = csv.DictReader(opened)
            require_column(file.address, rows.fieldnames or [])
            yield from (row["path"] for row in rows)
        else:
            yield from (line.strip() for line in opened if line.strip())


def require_column(address: str, names: Iterable[str]):
    if "path" not in names:
        raise ValueError(f"{address}: expected a column `path`, found {', '.join(names) or 'none'}.")
