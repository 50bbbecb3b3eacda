"""A photo when somebody asks for it over HTTP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Lock

from ..local_server import is_of_this_machine, served
from .triggers import Trigger

PATIENCE = 10.0  # seconds that a request waits for a picture
LONGEST_BODY = 65536  # bytes, which are read and not looked at


class Request:
    def __init__(self):
        self.is_done, self.photo = Event(), ""


class Posted(Trigger):
    """A photo of the first picture that comes after a request. Requests between two pictures share one."""

    def __init__(self):
        self._waiting: list[Request] = []
        self._asked: list[Request] = []
        self._lock = Lock()

    def asks(self, frame, seconds: float) -> bool:
        with self._lock:
            self._asked, self._waiting = self._waiting, []
        return bool(self._asked)

    def taken(self, photo: Path):
        for request in self._asked:
            request.photo = photo.name
            request.is_done.set()

    def photo(self) -> str | None:
        """Asks for a photo and waits; its file's name, or `None` where no picture came."""
        request = Request()
        with self._lock:
            self._waiting.append(request)
        if request.is_done.wait(PATIENCE):
            return request.photo
        with self._lock:
            self._waiting = [each for each in self._waiting if each is not request]
        return None


@contextmanager
def posted(host: str, port: int) -> Iterator[tuple[Posted, str]]:
    """Serves the trigger meanwhile; yields it, and its address.

    Raises:
        OSError: nothing can be served there; names the address.
    """
    trigger = Posted()

    class Handler(BaseHTTPRequestHandler):
        timeout, server_version, sys_version = PATIENCE, "adaptclip", ""

        def do_POST(self):
            length = self.headers.get("Content-Length", "0")
            self.rfile.read(min(int(length), LONGEST_BODY) if length.isdecimal() else 0)
            if not is_of_this_machine(self.headers.get("Host", "")) or "Origin" in self.headers:
                self.answer(HTTPStatus.FORBIDDEN, error="ask by this machine's name or address, and from no web page")
            elif (photo := trigger.photo()) is not None:
                self.answer(HTTPStatus.OK, photo=photo)
            else:
                self.answer(HTTPStatus.SERVICE_UNAVAILABLE, error=f"no picture within {PATIENCE:.0f} s")

        def answer(self, status: HTTPStatus, **content: str):
            body = json.dumps(content).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Says nothing: the terminal shows the photos."""

    with served(host, port, Handler, "--port") as address:
        yield trigger, address
