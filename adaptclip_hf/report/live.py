"""A page that shows a run while it goes on: it reads the folder of results, and answers GET alone."""

import json
import os
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock

from ..labels import ANOMALOUS, NORMAL, NOT_INSPECTABLE
from ..labels import SCORE as BY_SCORE
from ..local_server import is_of_this_machine, served
from ..reporting import printable
from ..runs.store_lines import RESULTS_FILE
from .histogram_drawing import template
from .page import drifts
from .pictures import Pictures

SHOWN, HOURS, DAYS, DRIFTS = 12, 24, 30, 5  # of photos, of rows of each table, of drifts
REFRESH = 5  # seconds
KEPT = 1.0  # second that a page is kept, so that many readers do not slow the scoring
TIMEOUT = 10  # seconds that a reader may take
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

Waiting = Callable[[], list[str]]


class RowsSoFar:
    """What the page shows of the rows; each is read once, when it has been written.

    Attributes:
        last: the last photos.
        hours, days: for each of them, in this machine's time, how many rows have each label, `None` without one, or
            "unreadable".
    """

    def __init__(self, file: Path):
        self.file = file
        self._forget(0)

    def _forget(self, inode: int):
        self.inode, self.position = inode, 0
        self.last: deque[dict] = deque(maxlen=SHOWN)
        self.hours: dict[str, Counter] = defaultdict(Counter)
        self.days: dict[str, Counter] = defaultdict(Counter)

    def read(self):
        """Reads what has been written since; all of it anew where the file is another one."""
        try:
            with self.file.open("rb") as opened:
                status = os.fstat(opened.fileno())
                if status.st_ino != self.inode or status.st_size < self.position:
                    self._forget(status.st_ino)
                opened.seek(self.position)
                for text in opened:
                    if not text.endswith(b"\n"):
                        break  # it is being written
                    self.position += len(text)
                    self._add(json.loads(text))
        except FileNotFoundError:
            self._forget(0)

    def _add(self, row: dict):
        self.last.append(row)
        if row.get("time") is not None:  # of an earlier version
            label = "unreadable" if row["error"] is not None else row["label"]
            when = datetime.fromisoformat(row["time"]).astimezone()
            self.hours[f"{when:%Y-%m-%d %H}:00"][label] += 1
            self.days[f"{when:%Y-%m-%d}"][label] += 1


class LivePage:
    """The page of a folder of results.

    Args:
        waiting: gives lines about decisions that are not delivered.
    """

    def __init__(self, folder: Path, waiting: Waiting):
        self.folder, self.waiting = folder, waiting
        self._rows, self._lock = RowsSoFar(folder / RESULTS_FILE), Lock()
        self._shown: dict[tuple, str | None] = {}
        self._page, self._until = b"", 0.0

    def html(self) -> bytes:
        with self._lock:
            if time.monotonic() >= self._until:
                self._rows.read()
                self._page = template("live.html").render(self._content()).encode(errors="replace")
                self._until = time.monotonic() + KEPT
            return self._page

    def _content(self) -> dict:
        rows = list(reversed(self._rows.last))
        self._shown = {key_of(row): self._picture(row) for row in rows}
        return {
            "title": printable(self.folder.resolve().name or str(self.folder.resolve())),
            "refresh": REFRESH,
            "now": datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            "today": shares({"today": self._rows.days.get(f"{datetime.now():%Y-%m-%d}", Counter())}, 1)[0],
            "waiting": list(map(printable, self.waiting())),
            "drifts": list(map(printable, drifts(self.folder)))[-DRIFTS:][::-1],
            "cards": [card(row, self._shown[key_of(row)]) for row in rows],
            "tables": {"By hour": shares(self._rows.hours, HOURS), "By day": shares(self._rows.days, DAYS)},
        }

    def _picture(self, row: dict) -> str | None:
        """A row's heatmap, or its photo, as a data URL; of what was shown before it is not made again."""
        if key_of(row) in self._shown:
            return self._shown[key_of(row)]
        pictures = Pictures(self.folder)
        return None if row["error"] is not None else pictures.heatmap(row) or pictures.photo(row)


def key_of(row: dict) -> tuple:
    return row["path"], row.get("time"), row["bytes"], row["modified"]


def card(row: dict, picture: str | None) -> dict:
    when, reason = row.get("time"), row.get("reason")
    shown = row["label"] != NOT_INSPECTABLE  # its figures say nothing of the part
    return {
        "name": printable(Path(row["path"]).name),
        "path": printable(row["path"]),
        "picture": picture,
        "label": "unreadable" if row["error"] is not None else row["label"],
        "why": printable(row["error"] or (reason if reason != BY_SCORE else None) or ""),
        "score": row["score"] if shown else None,
        "p_value": row["p_value"] if shown else None,
        "time": "" if when is None else f"{datetime.fromisoformat(when).astimezone():%H:%M:%S}",
    }


def shares(counts: dict[str, Counter], most: int) -> list[dict]:
    """The newest lines of a table: how many photos, and which share of those that were decided is anomalous."""
    lines = []
    for when in sorted(counts)[-most:][::-1]:
        labels = counts[when]
        decided, anomalous = labels[NORMAL] + labels[ANOMALOUS], labels[ANOMALOUS]
        others = {str(name): labels[name] for name in labels if name not in (NORMAL, ANOMALOUS, None)}
        share = anomalous / decided if decided else None
        figures = {"photos": labels.total(), "decided": decided, "anomalous": anomalous, "share": share}
        lines.append({"when": when, "others": others, **figures})
    return lines


@contextmanager
def live(host: str, port: int, page: LivePage) -> Iterator[str]:
    """Serves the page meanwhile; yields its address.

    Raises:
        OSError: nothing can be served there; names the address.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout, server_version, sys_version = TIMEOUT, "adaptclip", ""

        def do_GET(self):
            if not is_of_this_machine(self.headers.get("Host", "")):
                self.send_error(HTTPStatus.FORBIDDEN, "Ask by this machine's name or address")
            elif self.path != "/":
                self.send_error(HTTPStatus.NOT_FOUND)
            else:
                content = page.html()
                self.send_response(HTTPStatus.OK)
                for name, value in {**HEADERS, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_):
            """Says nothing: the terminal shows the run."""

    with served(host, port, Handler, "--live") as address:
        yield address
