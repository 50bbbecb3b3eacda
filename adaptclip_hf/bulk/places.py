"""Files of any place that fsspec knows: folders here, S3 and other stores."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ..files import write_whole
from ..image_files import images_below, is_image_name

LISTS = (".txt", ".csv", ".parquet")


@dataclass(frozen=True)
class Place:
    """A folder, by its path or address."""

    address: str

    @cached_property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            return fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise ValueError(f"{self.address} cannot be reached: {error}") from error

    @property
    def is_local(self) -> bool:
        return isinstance(self._opened[0], LocalFileSystem)

    def file(self, name: str) -> "Place":
        return Place(f"{self.address.rstrip('/')}/{name}")

    def names(self, pattern: str) -> list[str]:
        """Names of the files in this folder that match, sorted."""
        system, root = self._opened
        system.invalidate_cache()
        return sorted(path.rpartition("/")[2] for path in system.glob(f"{root.rstrip('/')}/{pattern}"))

    def read(self) -> bytes | None:
        """The content of this file; `None` where there is none."""
        system, path = self._opened
        try:
            return system.cat_file(path)
        except FileNotFoundError:
            return None

    def write(self, content: bytes):
        """Writes this file, which appears whole or not at all."""
        system, path = self._opened
        if self.is_local:
            write_whole(Path(path), content)
        else:  # stores show an object when all of it is there
            system.pipe_file(path, content)

    def remove(self):
        """Removes this file, or this folder and all in it."""
        system, path = self._opened
        if system.exists(path):
            system.rm(path, recursive=True)

    def images(self) -> Iterator[str]:
        """Addresses of the images that this place means: those below a folder, those that a list names, or itself.

        A list is a text of an address a line, or a CSV or Parquet file with a column `path`.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: a list without that column.
        """
        system, root = self._opened
        if Path(root).suffix.lower() in LISTS and system.isfile(root):
            yield from self._listed()
        elif self.is_local and Path(root).is_dir():
            yield from map(str, images_below(Path(root if "://" in self.address else self.address)))
        elif system.isdir(root):
            prefix = self.address.partition("://")[0] + "://"
            for _, _, files in system.walk(root, detail=True):
                for file in sorted(files.values(), key=lambda each: each["name"]):
                    hidden = any(part.startswith(".") for part in file["name"].removeprefix(root).split("/"))
                    if is_image_name(file["name"].rpartition("/")[2]) and not hidden:
                        yield prefix + file["name"]
        elif system.exists(root):
            yield self.address
        else:
            raise FileNotFoundError(f"There is nothing at {self.address}.")

    def _listed(self) -> Iterator[str]:
        import csv

        from pyarrow import parquet

        system, path = self._opened
        kind = Path(path).suffix.lower()
        if kind == ".parquet":
            with system.open(path, "rb") as opened:
                file = parquet.ParquetFile(opened)
                require_column(self.address, file.schema_arrow.names)
                for batch in file.iter_batches(columns=["path"]):
                    yield from batch.column("path").to_pylist()
            return
        with system.open(path, "r", encoding="utf-8", newline="") as opened:
            if kind == ".csv":
                rows = csv.DictReader(opened)
                require_column(self.address, rows.fieldnames or [])
                yield from (row["path"] for row in rows)
            else:
                yield from (line.strip() for line in opened if line.strip())


def require_column(address: str, names: Iterable[str]):
    if "path" not in names:
        raise ValueError(f"{address}: expected a column `path`, found {', '.join(names) or 'none'}.")


def is_remote(address: str) -> bool:
    return "://" in address and not address.startswith("file://")


def read_image(address: str):
    """What `load_image` takes for an image of any place: a path, or the content of what lies elsewhere.

    Raises:
        OSError: it cannot be read.
    """
    if not is_remote(address):
        return address
    try:
        with fsspec.open(address, "rb") as opened:
            return {"path": address, "bytes": opened.read()}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"No such image file: {address}") from error
    except Exception as error:  # whatever a store's client raises
        raise OSError(f"{address} cannot be fetched: {error}") from error


def read_settings(file: Place) -> dict | None:
    content = file.read()
    return None if content is None else json.loads(content)
