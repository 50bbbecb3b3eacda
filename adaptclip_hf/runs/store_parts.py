"""Results as `part-*.parquet`, in a folder at any address that fsspec knows: for any number of images."""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pyarrow as pa
from pyarrow import parquet

from ..engine import Result, UnreadableImage
from ..engine.heatmap import image_bytes, map_image
from ..reporting import first_line
from ..resume import parsed_settings
from .folder import Folder
from .folder_content import PART_SETTINGS_FILE as SETTINGS_FILE
from .folder_content import RESULTS_FILE
from .folder_content import SETTINGS_FILE as LINES_SETTINGS_FILE
from .formats import FORMAT_FILES, PARQUET
from .index import Index
from .rows import ROW, checked_row
from .store import ADVICE, Store
from .tables import MAP_PNG, part_schema, require_part, rows_of, table_of

PARTS = "part-*.parquet"
PART_NAME = re.compile(r"part-[0-9a-f]{32}\.parquet")
CHUNK = 128  # images that are read and scored as one piece of work
HIDDEN = "_"  # readers of a folder of Parquet files skip names that begin with it
OLD_PLAN = f"{HIDDEN}plan"  # a folder that killed runs of version 0.2 left


class PartStore(Store):
    """Rows in Parquet files, whose names are digests of their paths: the same rows again are the same file.

    Args:
        maps: rows have a column `map_png`, 16-bit PNG of the image's own size (65535 is 1).
    """

    own_format, prefix = PARQUET, HIDDEN

    def __init__(self, output: str, maps: bool = False):
        self.folder, self.schema = Folder(output), part_schema(maps)
        self._added: list[dict] = []
        self.folder_here = Path(self.folder.root) if self.folder.is_local else None
        self.place, self.written = output, f"{output}/{PARTS}"

    def begin(self, settings: dict, overwrite: bool):
        if self.has(LINES_SETTINGS_FILE) or self.has(RESULTS_FILE):
            raise ValueError(f"{self.place} holds {RESULTS_FILE} of a run without --engine ray: name another --output.")
        parts = self.folder.names(PARTS)
        if parts and not self.has(SETTINGS_FILE):  # Spark names its files so too
            raise ValueError(f"{self.place} holds results without a {SETTINGS_FILE}: name another --output.")
        if overwrite and self.has(SETTINGS_FILE):
            ours = [name for name in parts if PART_NAME.fullmatch(name)]
            for name in (*ours, SETTINGS_FILE, *(HIDDEN + file for file in FORMAT_FILES.values())):
                self.folder.remove(name)
        self.keep_or_match({name: value for name, value in settings.items() if name != "heatmaps"})  # parts have none

    def read_settings(self) -> dict | None:
        found = self.folder.read(SETTINGS_FILE)
        return None if found is None else parsed_settings(found, f"{self.place}/{SETTINGS_FILE}", ADVICE)

    def write_settings(self, settings: dict):
        self.folder.write(SETTINGS_FILE, json.dumps(settings, indent=1, allow_nan=False).encode())

    def load(self, index: Index):
        """Takes out a second row of an image, which a worker wrote that outlived its run."""
        with index.loading():
            for name in self.folder.names(PARTS):
                new = [index.note(row) for row in self._rows(name)]
                if not all(new):
                    self._replace(
                        name, [row for row, is_new in zip(self._rows(name, True), new, strict=True) if is_new]
                    )

    def _rows(self, name: str, maps: bool = False) -> Iterator[dict]:
        """
        Raises:
            ValueError: the part is damaged or of another program; names it.
        """
        try:
            file = parquet.ParquetFile(io.BytesIO(self.folder.read(name) or b""))
            require_part(file.schema_arrow)
            columns = [column for column in file.schema_arrow.names if maps or column != MAP_PNG]
            rows = list(rows_of(file.read(columns)))
            for row in rows:
                checked_row({column: row[column] for column in ROW})
        except (ValueError, OSError, pa.ArrowException) as error:
            raise ValueError(
                f"{self.place}/{name} is no whole part of results ({first_line(error)}): remove it, and its "
                "images are scored again."
            ) from error
        yield from rows

    def __iter__(self) -> Iterator[dict]:
        """Without their maps."""
        for name in self.folder.names(PARTS):
            yield from self._rows(name)

    def rewrite(self, change: Callable[[dict], dict | None]):
        for name in self.folder.names(PARTS):
            rows = list(self._rows(name, True))
            changed = [row for row in map(change, rows) if row is not None]
            if changed != rows:
                self._replace(name, changed)

    def _replace(self, name: str, rows: list[dict]):
        if rows:
            self.folder.write(name, as_parquet(table_of(rows, self.schema)))
        else:
            self.folder.remove(name)

    def add(self, row: dict, result: Result):
        self._added.append(with_map(row, result, self.schema))
        if len(self._added) == CHUNK:
            self._write_added()

    def finish(self):
        self._write_added()
        self.folder.remove(OLD_PLAN)

    def _write_added(self):
        if self._added:
            self.write(table_of(self._added, self.schema))
            self._added = []

    def write(self, table: pa.Table):
        """Writes rows as a part."""
        paths = zip(table["path_bytes"].to_pylist(), table["path"].to_pylist(), strict=True)
        digest = hashlib.sha256(b"\n".join(key or path.encode() for key, path in paths)).hexdigest()[:32]
        self.folder.write(f"part-{digest}.parquet", as_parquet(table))

    def writing(self, name: str) -> AbstractContextManager[IO[bytes]]:
        return self.folder.writing(name)

    def has(self, name: str) -> bool:
        return self.folder.has(name)


def with_map(row: dict, result: Result, schema: pa.Schema) -> dict:
    if isinstance(result, UnreadableImage) or MAP_PNG not in schema.names:
        return row
    return row | {MAP_PNG: image_bytes(map_image(result.anomaly_map), "PNG")}


def as_parquet(table: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()
