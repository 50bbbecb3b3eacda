"""Servers that tests start: `adaptclip serve` in a thread or a process, and what is sent to them."""

import os
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest
import uvicorn
from commands import CLI, start_python

from adaptclip_hf.cli import main

ADMIN = {"Authorization": "Bearer admin-secret"}
SMALL_LIMITS = ("--megabytes", "2", "--megapixels", "1", "--waiting", "64")
HEAD = b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"


class Client:
    """Asks a server."""

    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def detect(self, image: bytes, product: str | None = None, **fields) -> httpx.Response:
        data = fields if product is None else {"product": product, **fields}
        return httpx.post(f"{self.address}/detect", files={"image": ("a.png", image)}, data=data, timeout=300)


def call_of(port: int, profiles: dict[str, Path], model: Path, words) -> list[str]:
    products = [word for name, profile in profiles.items() for word in ("--profile", f"{name}={profile}")]
    return ["serve", "--port", str(port), "--model", str(model), *products, *map(str, words)]


class Server(Client):
    """`adaptclip serve` in a process of its own."""

    def __init__(self, folder: Path, profiles: dict[str, Path], model: Path, *words, open_files=None, **environment):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / f"server-{self.port}.log"
        command = [*CLI, *call_of(self.port, profiles, model, words)]
        with self.log.open("w") as log:
            options = {"stdout": log, "stderr": log, "open_files": open_files}
            self.process = start_python(*command, environment=os.environ | environment, **options)
        for _ in range(600):
            try:
                httpx.get(f"{self.address}/health").raise_for_status()
                return
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def stop(self):
        self.process.kill()
        self.process.wait()


class ServerThread(Client):
    """`adaptclip serve` in a thread of this process, which has imported torch already."""

    def __init__(self, profiles: dict[str, Path], model: Path, *words, **environment):
        served = []

        def run(app, **options):
            served.append(uvicorn.Server(uvicorn.Config(app, **options | {"port": 0})))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(uvicorn, "run", run)
            for name, value in environment.items():
                patch.setenv(name, value)
            assert main(call_of(1, profiles, model, words)) == 0
        [self.server] = served
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    def stop(self):
        self.server.should_exit = True
        self.thread.join(60)


def profile_files(folder: Path) -> list:
    return [("files", (file.name, file.read_bytes())) for file in sorted(folder.iterdir())]
