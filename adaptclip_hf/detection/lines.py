"""`results.jsonl`, and where in it each image's line lies; in memory that does not grow with their number."""

import json
import os
import sqlite3
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path

from ..files import whole_file

FILES = ("heatmap", "map")  # fields of a line that name what was written of its image


class ResultLines:
    """The lines of a run, one an image, appended as they come.

    Their places are kept in a database that SQLite holds in a temporary file of its own.

    Attributes:
        names: what is taken of the names of heatmaps and maps, in lower case and without ending.

    Raises:
        ValueError: a line that `adaptclip detect` has not written; names file and line.
    """

    def __init__(self, file: Path):
        self.file = file
        self._index = sqlite3.connect("", isolation_level=None)
        self._index.executescript(
            "pragma journal_mode = off; pragma synchronous = off;"
            "create table line"
            " (path blob primary key, position integer, bytes integer, modified integer) without rowid;"
            "create table name (name text primary key) without rowid;"
            "create table wanted (path blob primary key) without rowid;"
        )
        self.names: Container[str] = _Names(self._index)
        file.touch()
        self._cut_off_unfinished()
        self._opened = file.open("rb+")
        self._note_all()

    def __enter__(self) -> "ResultLines":
        return self

    def __exit__(self, *raised):
        self._opened.close()
        self._index.close()

    def __len__(self) -> int:
        return self._index.execute("select count(*) from line").fetchone()[0]

    def __contains__(self, path: str) -> bool:
        return self.stamp(path) is not None

    def __getitem__(self, path: str) -> dict:
        [position] = self._index.execute("select position from line where path = ?", (key_of(path),)).fetchone()
        self._opened.seek(position)
        return json.loads(self._opened.readline())

    def __iter__(self) -> Iterator[dict]:
        """All lines, in the order in which they were written."""
        with self.file.open("rb") as opened:
            yield from map(json.loads, opened)

    def stamp(self, path: str) -> tuple | None:
        """Size and time of change of a file when it was scored; `None` without a line."""
        return self._index.execute("select bytes, modified from line where path = ?", (key_of(path),)).fetchone()

    def append(self, line: dict):
        """Writes a line; it is in the file when this returns."""
        position = self._opened.seek(0, os.SEEK_END)
        self._opened.write(json.dumps(line).encode() + b"\n")
        self._opened.flush()
        self._note(position, line)

    def drop(self, paths: Iterable[str]):
        """Takes lines back, and removes what was written of their images."""
        dropped = set(paths)
        for path in dropped:
            for file in files_of(self[path]):
                Path(file).unlink(missing_ok=True)
        self.rewrite(lambda line: None if line["path"] in dropped else line)

    def rewrite(self, change: Callable[[dict], dict | None]):
        """Writes all lines anew, each as `change` makes it, without those that it makes `None` of."""
        with whole_file(self.file) as opened:
            for line in self:
                if (changed := change(line)) is not None:
                    opened.write(json.dumps(changed).encode() + b"\n")
        self._opened.close()
        self._opened = self.file.open("rb+")
        self._note_all()

    def new_ones(self, paths: Iterable[Path]) -> Iterator[Path]:
        """The paths, each once."""
        self._index.execute("delete from wanted")
        for path in paths:
            if self._index.execute("insert or ignore into wanted values (?)", (key_of(str(path)),)).rowcount:
                yield path

    def _note_all(self):
        self._index.executescript("delete from line; delete from name; begin")
        self._opened.seek(0)
        position = 0
        for number, text in enumerate(self._opened, start=1):
            try:
                self._note(position, json.loads(text))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.file}, line {number}, is not of `adaptclip detect` ({error!r}): remove it, or --overwrite."
                ) from error
            position += len(text)
        self._index.execute("commit")

    def _note(self, position: int, line: dict):
        values = (key_of(line["path"]), position, line["bytes"], line["modified"])
        self._index.execute("insert or replace into line values (?, ?, ?, ?)", values)
        taken = [(Path(file).stem.lower(),) for file in files_of(line)]
        self._index.executemany("insert or ignore into name values (?)", taken)

    def _cut_off_unfinished(self):
        """Cuts away a last line that was not written to its end."""
        with self.file.open("rb+") as opened:
            whole = 0
            for text in opened:
                whole += len(text) if text.endswith(b"\n") else 0
            opened.truncate(whole)


class _Names(Container[str]):
    def __init__(self, index: sqlite3.Connection):
        self._index = index

    def __contains__(self, name: object) -> bool:
        return self._index.execute("select 1 from name where name = ?", (name,)).fetchone() is not None


def key_of(path: str) -> bytes:
    """A path as bytes; names in no encoding come as surrogates, which text in SQLite cannot hold."""
    return path.encode(errors="surrogatepass")


def files_of(line: dict) -> list[str]:
    """What was written of a line's image."""
    return [line[name] for name in FILES if line.get(name)]


def stamp_of(path: Path) -> tuple[int | None, int | None]:
    """Size and time of a file's last change, by which a changed one is known."""
    if not path.is_file():
        return None, None
    status = path.stat()
    return status.st_size, status.st_mtime_ns
