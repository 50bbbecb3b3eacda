"""Receivers of decisions, in threads: an HTTP server and an MQTT broker that knows what one publisher needs."""

import json
import socket
import struct
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hook:
    """An HTTP server that keeps what it is sent, and answers with the statuses that it is told, then with 204."""

    def __init__(self, port: int = 0):
        self.bodies, self.headers, self.statuses = [], [], []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = hook.statuses.pop(0) if hook.statuses else 204
                if status == 204:
                    hook.bodies.append(json.loads(body))
                    hook.headers.append(dict(self.headers))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{hook.port}/elsewhere")
                self.end_headers()

            def do_GET(self):
                raise AssertionError("a redirection was followed")

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/in"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def hooked(port: int = 0):
    hook = Hook(port)
    try:
        yield hook
    finally:
        hook.close()


class Broker:
    """MQTT 3.1.1, as far as one that publishes with quality 1 sees it.

    Attributes:
        published: (topic, payload) of all that was acknowledged.
        forgets: so many publications are dropped, with their connection, before the next is acknowledged.
        password: that a client must give; `None` lets everyone in.
    """

    def __init__(self, password: str | None = None):
        self.published, self.forgets, self.password = [], 0, password
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        try:
            while True:
                threading.Thread(target=self._serve, args=(self.socket.accept()[0],), daemon=True).start()
        except OSError:
            return

    def _serve(self, connection: socket.socket):
        with connection, connection.makefile("rb") as stream:
            while head := stream.read(1):
                body = stream.read(read_length(stream))
                kind = head[0] >> 4
                if kind == 1:
                    allowed = self.password is None or body.endswith(self.password.encode())
                    connection.sendall(bytes([0x20, 2, 0, 0 if allowed else 5]))
                elif kind == 3:
                    [length] = struct.unpack(">H", body[:2])
                    topic, number, payload = body[2 : 2 + length], body[2 + length : 4 + length], body[4 + length :]
                    assert head[0] >> 1 & 3 == 1
                    if self.forgets:
                        self.forgets -= 1
                        return
                    self.published.append((topic.decode(), json.loads(payload)))
                    connection.sendall(bytes([0x40, 2]) + number)
                elif kind == 12:
                    connection.sendall(bytes([0xD0, 0]))
                else:
                    return

    def close(self):
        self.socket.close()


def read_length(stream) -> int:
    value, shift = 0, 0
    while True:
        [byte] = stream.read(1)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7
