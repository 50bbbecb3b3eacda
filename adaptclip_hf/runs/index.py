"""Which images have a row and which wait, in a temporary SQLite file: memory must not grow with the images."""

import sqlite3
from collections.abc import Container, Iterator
from contextlib import contextmanager
from threading import Lock

from .sources import Source, Stamp

NOTED = ("bytes", "modified", "score", "label", "error")  # of a row, beside its path


class Index:
    """The rows of a store, and the images that are asked for. Several threads can use it.

    Paths are kept as bytes: names that are in no encoding have surrogates, which text in SQLite cannot hold.

    Attributes:
        names: what is taken of the names of pictures, in lower case and without ending.
    """

    def __init__(self):
        self.names = Names(self)
        self._lock = Lock()
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(
            "pragma journal_mode = off; pragma synchronous = off;"
            "create table row (path blob primary key, bytes, modified, score, label, error) without rowid;"
            "create table wanted (path blob primary key, bytes, modified, waits integer) without rowid;"
            "create unique index number on wanted (waits);"
            "create table name (name text primary key) without rowid;"
        )

    def close(self):
        self._database.close()

    def _do(self, command: str, *values) -> int:
        """How many lines of a table were changed."""
        with self._lock:
            return self._database.execute(command, values).rowcount

    def _ask(self, command: str, *values) -> list[tuple]:
        with self._lock:
            return self._database.execute(command, values).fetchall()

    def __len__(self) -> int:
        [[rows]] = self._ask("select count(*) from row")
        return rows

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Forgets all rows, and notes those that come now in one go."""
        self._do("begin")
        self._do("delete from row")
        self._do("delete from name")
        yield
        self._do("commit")

    def note(self, row: dict) -> bool:
        """Notes a row; false if its path has one."""
        noted = {**row, "error": None if row["error"] is None else ""}  # its text may not be encodable
        values = (noted[name] for name in NOTED)
        return self._do("insert or ignore into row values (?, ?, ?, ?, ?, ?)", key_of(row["path"]), *values) == 1

    def find(self, path: str) -> dict | None:
        """A path's row, as far as a summary needs it."""
        found = self._ask(f"select {', '.join(NOTED)} from row where path = ?", key_of(path))
        return {"path": path, **dict(zip(NOTED, *found, strict=True))} if found else None

    def stamp(self, path: str) -> Stamp | None:
        """The image as it was when it was scored; `None` without a row."""
        row = self.find(path)
        return None if row is None else (row["bytes"], row["modified"])

    def take_name(self, name: str):
        """Notes the name of a picture."""
        self._do("insert or ignore into name values (?)", name.lower())

    def begin_listing(self):
        self._do("delete from wanted")

    def want(self, source: Source, waits: int | None) -> bool:
        """Notes an image that is asked for; false if it was listed before.

        Args:
            waits: its number among those that wait, from 0; `None` if it does not.
        """
        values = (key_of(source.path), *source.listed, waits)
        return self._do("insert or ignore into wanted values (?, ?, ?, ?)", *values) == 1

    def is_waiting(self, path: str) -> bool:
        return bool(self._ask("select 1 from wanted where path = ? and waits is not null", key_of(path)))

    def waiting(self, first: int, count: int) -> list[Source]:
        """Some of the images that wait, in the order of the listing."""
        command = "select path, bytes, modified from wanted where waits >= ? and waits < ? order by waits"
        return [
            Source(path_of(path), (size, modified)) for path, size, modified in self._ask(command, first, first + count)
        ]


class Names(Container[str]):
    def __init__(self, index: Index):
        self._index = index

    def __contains__(self, name: object) -> bool:
        return bool(self._index._ask("select 1 from name where name = ?", name))


def key_of(path: str) -> bytes:
    return path.encode(errors="surrogatepass")


def path_of(key: bytes) -> str:
    return key.decode(errors="surrogatepass")
