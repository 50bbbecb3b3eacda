"""Which images have a row and which wait, in a temporary SQLite file: memory must not grow with the images."""

import sqlite3
import tempfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from .rows import SEEN
from .sources import Source
from .stamps import Stamp, identity

NOTED = ("bytes", "modified", "changed", "sha256", "score", "label", "reason", "error")  # of a row, beside its path
STAMP = NOTED[:4]


PARTS_AT_ONCE = 1000


class NotedPhoto(NamedTuple):
    """A row of a part's photo, as far as the decision on the part needs it."""

    path: str
    label: str | None
    unreadable: bool


class Index:
    """The rows of a store, and the images that are asked for. Several threads can use it.

    An image is known by its place (see [`identity`]), so that it has one row however it is named. Texts are kept as
    bytes: names that are in no encoding have surrogates, which text in SQLite cannot hold.

    Attributes:
        names: what is taken of the names of pictures, in lower case and without ending.

    Raises:
        OSError: the temporary file cannot be written, from every method.
    """

    def __init__(self):
        self.names = Names(self)
        self._lock = Lock()
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(
            "pragma journal_mode = off; pragma synchronous = off;"
            "create table row (file blob primary key, path blob, bytes, modified, changed, sha256, score, label,"
            " reason, error, part blob) without rowid;"
            "create index row_path on row (path); create index row_part on row (part);"
            "create table seen (path blob primary key, file blob, bytes, modified, changed, sha256) without rowid;"
            "create table wanted (file blob primary key, path blob, bytes, modified, waits integer, part blob)"
            " without rowid;"
            "create unique index number on wanted (waits);"
            "create table name (name text primary key) without rowid;"
        )

    def close(self):
        self._database.close()

    def _do(self, command: str, *values) -> int:
        """How many lines of a table were changed."""
        with self._asking():
            return self._database.execute(command, values).rowcount

    def _ask(self, command: str, *values) -> list[tuple]:
        with self._asking():
            return self._database.execute(command, values).fetchall()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.OperationalError as error:
            raise OSError(
                f"{tempfile.gettempdir()}: the list of the run's images cannot be kept there ({error}): make room, or "
                "let TMPDIR name another folder."
            ) from error

    def __len__(self) -> int:
        [[rows]] = self._ask("select count(*) from row")
        return rows

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Forgets all rows, and notes those that come now in one go."""
        self._do("begin")
        for table in ("row", "seen", "name"):
            self._do(f"delete from {table}")
        yield
        self._do("commit")

    def note_seen(self, path: str, stamp: Stamp, file: str):
        """Notes where the image of a row lay, and its stamp, for a row that comes later without them."""
        command = "insert or replace into seen values (?, ?, ?, ?, ?, ?)"
        self._do(command, key_of(path), key_of(file), stamp.bytes, stamp.modified, stamp.changed, stamp.sha256)

    def note(self, row: dict) -> bool:
        """Notes a row; false if its image has one."""
        row = {**row, "error": None if row["error"] is None else ""}  # its text may not be encodable
        if SEEN[0] not in row:
            row |= self._seen(row)
        values = (row.get(name) for name in NOTED)
        place = "insert or ignore into row values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        return self._do(place, key_of(row["file"]), key_of(row["path"]), *values, key_or_none(row["part"])) == 1

    def _seen(self, row: dict) -> dict:
        """What was noted for a row that has no place; of an earlier version there is nothing."""
        found = self._ask(
            "select file, changed, sha256 from seen where path = ? and bytes is ? and modified is ?",
            *(key_of(row["path"]), row["bytes"], row["modified"]),
        )
        if not found:
            return dict.fromkeys(SEEN) | {"file": identity(row["path"])}
        return dict(zip(SEEN, found[0], strict=True)) | {"file": path_of(found[0][0])}

    def find(self, source: Source) -> dict | None:
        """An image's row, as far as a summary needs it, with the image's place then.

        A photo that was moved together with the results, and is named as it was, has the row of that name.
        """
        columns = f"select file, path, part, {', '.join(NOTED)} from row where"
        [*found] = self._ask(f"{columns} file = ?", key_of(source.identity))
        if not found:
            named_so = self._ask(f"{columns} path = ?", key_of(source.path))
            found = [each for each in named_so if not Path(path_of(each[0])).exists()]
        if not found:
            return None
        file, path, part, *values = found[0]
        about = {"file": path_of(file), "path": path_of(path), "part": None if part is None else path_of(part)}
        return about | dict(zip(NOTED, values, strict=True))

    def is_current(self, source: Source, row: dict) -> bool:
        """Whether a row that was found is still of the image's content."""
        if source.has_changed(Stamp(*(row[name] for name in STAMP))):
            return False
        if row["changed"] is not None and (changed := source.stamp().changed) != row["changed"]:
            self._do("update row set changed = ? where file = ?", changed, key_of(row["file"]))  # it was read: once
        return True

    def is_named(self, path: str) -> bool:
        """Whether a row shows this path."""
        return bool(self._ask("select 1 from row where path = ?", key_of(path)))

    def take_name(self, name: str):
        """Notes the name of a picture."""
        self._do("insert or ignore into name values (?)", name.lower())

    def begin_listing(self):
        self._do("delete from wanted")

    def want(self, source: Source, file: str, waits: int | None) -> bool:
        """Notes an image that is asked for; false if it was listed before.

        Args:
            file: its place, or that of its row.
            waits: its number among those that wait, from 0; `None` if it does not.
        """
        values = (key_of(file), key_of(source.path), *source.listed[:2], waits, key_or_none(source.part))
        return self._do("insert or ignore into wanted values (?, ?, ?, ?, ?, ?)", *values) == 1

    def is_waiting(self, path: str) -> bool:
        """Whether the image of the row that shows this path waits."""
        command = "select 1 from row join wanted using (file) where row.path = ? and waits is not null"
        return bool(self._ask(command, key_of(path)))

    def waiting(self, first: int, count: int) -> list[Source]:
        """Some of the images that wait, in the order of the listing."""
        command = "select path, bytes, modified, part from wanted where waits >= ? and waits < ? order by waits"
        return [
            Source(path_of(path), Stamp(size, modified), None if part is None else path_of(part))
            for path, size, modified, part in self._ask(command, first, first + count)
        ]

    def of_part(self, part: str) -> list[NotedPhoto]:
        """The rows of a part's photos."""
        found = self._ask("select path, label, error from row where part = ?", key_of(part))
        return [NotedPhoto(path_of(path), label, error is not None) for path, label, error in found]

    def parts(self) -> Iterator[str]:
        """The names of all parts, sorted; some at a time."""
        command, last = "select distinct part from row where part > ? order by part limit ?", b""
        while some := self._ask(command, last, PARTS_AT_ONCE):
            yield from (path_of(part) for [part] in some)
            last = some[-1][0]

    def without_part(self) -> int:
        """How many images that could be read belong to no part."""
        [[rows]] = self._ask("select count(*) from row where part is null and error is null")
        return rows


class Names(Container[str]):
    def __init__(self, index: Index):
        self._index = index

    def __contains__(self, name: object) -> bool:
        return bool(self._index._ask("select 1 from name where name = ?", name))


def key_or_none(text: str | None) -> bytes | None:
    return None if text is None else key_of(text)


def key_of(path: str) -> bytes:
    return path.encode(errors="surrogatepass")


def path_of(key: bytes) -> str:
    return key.decode(errors="surrogatepass")
