"""`adaptclip serve` among hostile clients: memory with twelve images of 64 megapixels at once, what honest clients wait
beside 128 slow bodies, and `/health` and the log with 2,000 silent connections and 1,024 open files.

    python benchmarks/hostile_clients.py --profile bottle/              # all three; without --profile zero-shot

Starts servers of its own on this machine's loopback address; ends by itself.
"""

import argparse
import contextlib
import io
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
from PIL import Image

from adaptclip_hf import DEFAULT_MODEL

BODY = (
    b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 100000\r\n\r\n"
)


class Service:
    """A server in a process of its own."""

    def __init__(self, words: list[str], log: Path, files: int):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log, self.address = log, f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "adaptclip_hf.cli", "serve", "--port", str(self.port), *words]
        limit = f"ulimit -n {files}; exec " + " ".join(map(repr, command))
        with log.open("w") as opened:
            self.process = subprocess.Popen(["bash", "-c", limit], stdout=opened, stderr=opened)
        while True:
            try:
                self.health()
                return
            except httpx.TransportError:
                if self.process.poll() is not None:
                    raise SystemExit(log.read_text()) from None
                time.sleep(0.1)

    def health(self) -> float:
        begun = time.perf_counter()
        httpx.get(f"{self.address}/health", timeout=60).raise_for_status()
        return time.perf_counter() - begun

    def detect(self, image: bytes) -> float:
        begun = time.perf_counter()
        httpx.post(f"{self.address}/detect", files={"image": image}, timeout=900).raise_for_status()
        return time.perf_counter() - begun

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    args = parser.parse_args()
    profile = ["--profile", f"product={args.profile}"] if args.profile else []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    for measure in (pixels, slow_bodies, silent):
        with started([*profile, "--model", args.model], 1024 if measure is silent else 8192) as service:
            measure(service)


@contextlib.contextmanager
def started(words: list[str], files: int) -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as folder:
        service = Service(words, Path(folder) / "log", files)
        try:
            service.detect(image(64))
            yield service
        finally:
            service.process.kill()
            service.process.wait()


def image(side: int, kind: str = "PNG", **options) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (side, side), (200, 30, 40)).save(content, kind, **options)
    return content.getvalue()


def pixels(service: Service):
    process, done, large = psutil.Process(service.process.pid), threading.Event(), image(8000, "WEBP", lossless=True)
    idle = highest = process.memory_info().rss

    def watch():
        nonlocal highest
        while not done.wait(0.005):
            highest = max(highest, process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    small = []
    with ThreadPoolExecutor(12) as pool:
        begun, asked = time.perf_counter(), [pool.submit(service.detect, large) for _ in range(12)]
        while not all(each.done() for each in asked):
            small.append(service.detect(image(64)))
        seconds = time.perf_counter() - begun
    done.set()
    watching.join()
    print(
        f"12 WebP files of {len(large)} bytes and 64 megapixels at once: {(highest - idle) / 1e9:.2f} GB above idle, "
        f"{seconds:.0f} s; a small image beside them: {statistics.median(small):.2f} s, at most {max(small):.2f} s",
        flush=True,
    )


def slow_bodies(service: Service):
    def p99() -> float:
        with ThreadPoolExecutor(4) as pool:
            return statistics.quantiles(pool.map(service.detect, [image(64)] * 200), n=100)[98]

    stop, slow = threading.Event(), []

    def drip():
        while not stop.wait(1):
            for number, each in enumerate(slow):
                try:
                    each.sendall(b"12345678")
                except OSError:  # it was refused
                    slow[number] = service.connect()
                    slow[number].sendall(BODY)

    p99()
    for number in range(3):
        quiet = p99()
        slow[:] = [service.connect() for _ in range(128)]
        for each in slow:
            each.sendall(BODY)
        dripping = threading.Thread(target=drip)
        dripping.start()
        beside = p99()
        stop.set()
        dripping.join()
        stop.clear()
        for each in slow:
            each.close()
        print(f"128 slow bodies, round {number + 1}: p99 {beside:.2f} s, quiet {quiet:.2f} s", flush=True)


def silent(service: Service):
    held = [service.connect() for _ in range(2000)]
    seconds = [service.health() for _ in range(20)]
    log = service.log.stat().st_size
    print(f"{len(held)} silent connections, 1,024 files: /health at most {max(seconds):.2f} s, the log {log} bytes")


if __name__ == "__main__":
    main()
