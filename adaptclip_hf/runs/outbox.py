"""What a run has decided and is still to be delivered, in an SQLite file beside its rows.

A decision is here before its row is in the results. If the process is killed between the two, its photo is scored again
and has the same id, so that none is lost and none stands here twice.
"""

import hashlib
import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition

from .index import key_of
from .rows import ROW

OUTBOX_FILE = "outbox.sqlite"
WAIT = 60.0  # seconds, while another program reads the file
KEPT = 1000  # of the last decisions, also where all targets have them, by which a repeat is known
TABLES = """
create table if not exists run (id text);
create table if not exists message (number integer primary key autoincrement, id text unique, label text, body text);
create table if not exists target (name text primary key, label text, done integer, refused integer default 0);
"""
WAITING = """
from message join target on message.number > target.done and (target.label is null or target.label = message.label)
where target.name = ?
"""


@dataclass(frozen=True)
class Message:
    """A decision on its way.

    Attributes:
        number: its place in the order of the run's decisions.
        id: of the decision; the same however often it is delivered.
        body: its row, with `id`, `file` (the image's absolute path) and `sha256` of the image's content.
    """

    number: int
    id: str
    body: dict

    @property
    def text(self) -> str:
        """The body as one line of JSON in ASCII."""
        return json.dumps(self.body)


class Outbox:
    """The decisions of a run in their order, and how far each target has them. Several threads can use it.

    A target gets what is decided from the moment when it is first named. It is known by its kind, so that it goes on
    where it was when its address is corrected.

    Raises:
        OSError: the file cannot be read or written, from every method; names it.
    """

    def __init__(self, file: Path):
        self.file = file
        self._changed = Condition()
        with self._asking():
            self._database = sqlite3.connect(file, WAIT, isolation_level=None, check_same_thread=False)
            # on the disk before the row is, also when the power fails; a journal that works on shares
            self._database.executescript(f"pragma journal_mode = truncate; pragma synchronous = full; {TABLES}")
            self._database.execute("insert into run select ? where not exists (select 1 from run)", [uuid.uuid4().hex])
            [[self.run]] = self._database.execute("select id from run").fetchall()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            with self._changed:
                yield
        except sqlite3.Error as error:
            raise OSError(
                f"{self.file}: the decisions that are to be delivered cannot be kept there ({error}): make room, or "
                "name another --output."
            ) from error

    def _ask(self, command: str, *values) -> list[tuple]:
        with self._asking():
            return self._database.execute(command, values).fetchall()

    def close(self):
        with self._asking():
            self._database.close()

    def enrol(self, target: str, label: str | None):
        """Notes a target; one that is new gets what is decided from now on.

        Args:
            label: the only one that it takes; `None` for all decisions.
        """
        command = "insert or ignore into target (name, label, done) select ?, ?, coalesce(max(number), 0) from message"
        self._ask(command, target, label)

    def put(self, row: dict):
        """Keeps the decision of a row, whose file is named; one that is here already stays as it is."""
        known = [self.run, row["file"], *(str(row[name]) for name in ("bytes", "modified", "sha256"))]
        number = hashlib.sha256(b"\0".join(map(key_of, known))).hexdigest()
        body = {"id": number, **{name: row[name] for name in ROW}, "file": row["file"], "sha256": row["sha256"]}
        with self._asking():
            self._database.execute(
                "insert or ignore into message (id, label, body) values (?, ?, ?)",
                (number, row["label"], json.dumps(body)),
            )
            self._changed.notify_all()

    def wait_for(self, target: str, seconds: float) -> Message | None:
        """The next decision for a target; `None` if there is none for so many seconds, or after [`wake`]."""
        with self._changed:
            found = self._next(target)
            if found is None and self._changed.wait(seconds):
                found = self._next(target)
        return found

    def _next(self, target: str) -> Message | None:
        for number, known_as, body in self._ask(f"select number, id, body {WAITING} order by number limit 1", target):
            return Message(number, known_as, json.loads(body))
        return None

    def wake(self):
        """Ends the waiting of all threads."""
        with self._changed:
            self._changed.notify_all()

    def note_delivered(self, target: str, message: Message, refused: bool = False):
        """Notes that a target has a message and all before it, or that it can never have it."""
        self._ask(
            "update target set done = ?, refused = refused + ? where name = ?", message.number, int(refused), target
        )

    def waiting(self, target: str) -> int:
        """How many decisions a target does not have yet."""
        [[count]] = self._ask(f"select count(*) {WAITING}", target)
        return count

    def targets(self) -> list[str]:
        """All that were ever named."""
        return [name for (name,) in self._ask("select name from target order by name")]

    def forget_delivered(self):
        """Removes what all targets have, but for the last decisions."""
        self._ask(
            "delete from message where number <= (select min(done) from target)"
            " and number <= (select max(number) from message) - ?",
            KEPT,
        )
