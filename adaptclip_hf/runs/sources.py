"""The images of a run: files, folders, patterns and lists on this machine, and what lies at other addresses."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import fsspec

from ..engine import UnreadableImage, View
from ..engine.images import ImageReader, LoadedImage, OnError
from ..files import from_csv_cell
from ..image_files import OURS, ImageFiles
from ..listings import csv_rows, lines_of, require_columns
from ..own_files import PICTURES, lies_in_own_folder
from ..passed_over import PassedOver
from .folder import Folder, is_remote
from .stamps import UNKNOWN, Stamp, has_changed, identity, stamp_here, with_digest

LISTS = (".txt", ".csv", ".parquet")
PART = "part"  # a column of a list


@dataclass(frozen=True)
class Source:
    """An image that is asked for.

    Attributes:
        path: path or address; a name that is in no encoding has surrogates.
        listed: the stamp of an image elsewhere, as the listing of its folder told it.
        part: that it belongs to, where a list says it in a column `part`.
    """

    path: str
    listed: Stamp = UNKNOWN
    part: str | None = None

    @property
    def identity(self) -> str:
        """The same text however the image is named."""
        return identity(self.path)

    def stamp(self) -> Stamp:
        """Tells a changed file from what it was."""
        return self.listed if is_remote(self.path) else stamp_here(self.path)

    def whole_stamp(self) -> Stamp:
        """The stamp with a digest of the content of a file on this machine."""
        return self.listed if is_remote(self.path) else with_digest(self.stamp(), self.path)

    def has_changed(self, before: Stamp) -> bool:
        return has_changed(self.path, before, self.stamp())

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
        except (OSError, ValueError, MemoryError) as error:
            error = refused_for_memory(source.path) if isinstance(error, MemoryError) else error
            on_error(source.path, error)
            yield UnreadableImage(source.path, str(error))


def refused_for_memory(path: str) -> ValueError:
    """The error of an image alone, while the rest goes on."""
    return ValueError(f"{path} is too large for the memory that is free here: score it on a machine with more.")


@dataclass(frozen=True)
class Sources:
    """All images of a run, listed each time they are iterated.

    Attributes:
        files: on this machine.
        addresses: folders, images and lists, here or at an address that fsspec knows.
        leave_out: a folder here whose images are not meant: the run's own output.
        passed_over: is called with what is passed over, and tells it when all is listed; give it to `files` as well.
    """

    files: ImageFiles | tuple = ()
    addresses: tuple[str, ...] = ()
    leave_out: Path | None = None
    passed_over: PassedOver = field(default_factory=PassedOver)

    def __iter__(self) -> Iterator[Source]:
        """
        Raises:
            FileNotFoundError, ValueError: an address where nothing is, or no image; a list that cannot be read, with
                its line.
        """
        try:
            yield from self._all()
        finally:
            self.passed_over.tell()

    def _all(self) -> Iterator[Source]:
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
        if is_list(folder.root) and folder.system.isfile(folder.root):
            yield from self._listed(folder)
        elif folder.is_local:
            path = Path(folder.root if "://" in address else address)
            if not path.exists():
                raise FileNotFoundError(f"There is nothing at {address}.")
            yield from (Source(str(file)) for file in ImageFiles([path], self.leave_out, self.passed_over))
        elif folder.system.isdir(folder.root):
            scheme = address.partition("://")[0]
            for file in folder.walk(self.passed_over):
                yield Source(f"{scheme}://{file['name']}", stamp_of(file))
        elif folder.system.exists(folder.root):
            yield Source(address)
        else:
            raise FileNotFoundError(f"There is nothing at {address}.")

    def _listed(self, file: Folder) -> Iterator[Source]:
        """What a list names, but for pictures of ours."""
        for path, part in listed(file):
            # a look at the disk for each of millions would take minutes
            if not PICTURES.keys().isdisjoint(path.split("/")) and not is_remote(path) and lies_in_own_folder(path):
                self.passed_over(path, OURS)
            else:
                yield Source(path, part=part)


def is_list(address: str) -> bool:
    """Whether it is named as a list of images."""
    return Path(address).suffix.lower() in LISTS


def stamp_of(file: dict) -> Stamp:
    """Of a file as fsspec describes it; only the size where the file system gives no time."""
    changed = file.get("LastModified")
    return Stamp(file["size"], int(changed.timestamp() * 1e9) if isinstance(changed, datetime) else None)


def listed(file: Folder) -> Iterator[tuple[str, str | None]]:
    """What a list names: a text of an address a line, or a CSV or Parquet file with a column `path`.

    Returns:
        Each path, and the part that the photo belongs to, where there is a column `part` and it is not empty.

    Raises:
        ValueError: a line names nothing, another list, or cannot be read; names the list and the line.
    """
    for where, path, part in named_in(file):
        if not isinstance(path, str) or not path:
            raise ValueError(f"{where}: expected the path of an image, got {path!r}.")
        if path.lower().endswith(LISTS):
            raise ValueError(f"{where}: {path} is a list; expected the path of an image.")
        if part is not None and not isinstance(part, str | int):
            raise ValueError(f"{where}: expected the name of a part, got {part!r:.60}.")
        yield path, str(part) if part not in (None, "") else None


def named_in(file: Folder) -> Iterator[tuple[str, str | None, str | int | None]]:
    """Each line of a list that is not empty, what it names, and its part."""
    kind = Path(file.root).suffix.lower()
    with file.system.open(file.root, "rb") as opened:
        if kind == ".parquet":
            yield from rows_of_parquet(opened, file.address)
        elif kind == ".csv":
            for where, row in csv_rows(opened, file.address, ["path"]):
                path, part = (from_csv_cell(row.get(name, "").strip()) for name in ("path", PART))
                yield where, path, part
        else:
            for where, line in lines_of(opened, file.address):
                if path := line.strip():
                    yield where, unquoted(path), None


def unquoted(path: str) -> str:
    """A path without the quotes in which Windows copies it."""
    return path[1:-1] if len(path) > 1 and path[0] == path[-1] == '"' else path


def rows_of_parquet(opened, name: str) -> Iterator[tuple[str, str | None, str | int | None]]:
    """Each row of a Parquet file, its `path` and its `part`."""
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        table = parquet.ParquetFile(opened)
        require_columns(name, ["path"], table.schema_arrow.names)
        columns = ["path", PART] if PART in table.schema_arrow.names else ["path"]
        for batch in table.iter_batches(columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield f"{name}, row {number}", row["path"], row.get(PART)
    except (ArrowException, OSError) as error:
        raise ValueError(f"{name} cannot be read as Parquet: {error}") from error
