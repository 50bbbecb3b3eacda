"""`adaptclip serve` under load, beside the bare pipeline in the same run: images a second and what share of the bare
pipeline's they are, p50, p99 and their ratio, and how far its answers are from the pipeline's.

    python benchmarks/service.py --profile bottle=bottle/ --images bottle=photos/ --profile ... --images ...
    python benchmarks/service.py ... --requests 20000 --clients 8       # a soak; memory before and after, then SIGTERM

Starts a server of its own on this machine's loopback address; ends by itself. The bare pipeline is timed before and
after each load, since machines are shared. Two columns hardly feel what else a machine does: processor seconds, of the
server's image over the bare one's, and overtakings, the requests that came later than one and were answered before it.
"""

import argparse
import asyncio
import bisect
import itertools
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
from transformers import pipeline

import adaptclip_hf  # noqa: F401
from adaptclip_hf import DEFAULT_MODEL
from adaptclip_hf.cli.serve import named_profile
from adaptclip_hf.image_files import find_images

IMAGES = 24  # of each product


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", action="append", type=named_profile, required=True)
    parser.add_argument("--images", action="append", type=named_profile, required=True, help="NAME=FOLDER")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=240)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--server", nargs=argparse.REMAINDER, default=[], help="more words for `adaptclip serve`")
    args = parser.parse_args()
    profiles = dict(args.profile)
    photos = {name: find_images([folder])[:IMAGES] for name, folder in args.images}
    mixed = [each for each in itertools.chain(*itertools.zip_longest(*labelled(photos))) if each is not None]

    bare = BarePipeline(args.model, profiles, photos)
    server = start_server(profiles, args)
    try:
        process = psutil.Process(server.pid)
        asyncio.run(load(args.port, mixed, bare.scores, 8, 48))
        print(
            "| clients | images/s | of the pipeline's | share | p50 ms | p99 ms | p99 / p50 | overtaken, p99, most | "
            "processor s, over the pipeline's | failed | largest difference | MiB |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
        for clients in args.clients:
            bare.run()
            before = processor_seconds(process)
            found = asyncio.run(load(args.port, mixed, bare.scores, clients, args.requests))
            processor = (processor_seconds(process) - before) / args.requests
            bare.run()
            print(row(clients, found, processor, bare, process.memory_info().rss / 2**20), flush=True)
            bare.forget()
        answered, refused = asyncio.run(stopped_in_the_middle(args.port, mixed, server))
        print(f"SIGTERM with 64 requests sent: {answered} answered, {refused} not accepted, exit {server.wait(90)}")
    finally:
        server.kill()


class BarePipeline:
    """The pipeline on the same photos, one at a time, without a service.

    Attributes:
        scores: of each product and photo.
        seconds, processor: of all runs since [`~BarePipeline.forget`].
    """

    def __init__(self, model: str, profiles: dict[str, str], photos: dict[str, list[Path]]):
        self.detect = pipeline("anomaly-detection", model=model)
        self.profiles, self.photos, self.scores = profiles, photos, {}
        self.forget()
        self.run()  # warms up
        self.forget()

    def forget(self):
        self.seconds, self.processor, self.images = 0.0, 0.0, 0

    def run(self):
        for name, paths in self.photos.items():
            self.detect(str(paths[0]), profile=self.profiles[name])  # opens the profile
            start, busy = time.perf_counter(), time.process_time()
            answers = self.detect(list(map(str, paths)), profile=self.profiles[name])
            self.seconds += time.perf_counter() - start
            self.processor += time.process_time() - busy
            self.images += len(paths)
            self.scores |= {(name, path): answer["score"] for path, answer in zip(paths, answers, strict=True)}


@dataclass(frozen=True)
class Load:
    """What clients saw.

    Attributes:
        seconds: of all requests together.
        spans: when each request began and was answered, in seconds.
        failed: answers with another status than 200.
        difference: of a score from the pipeline's, the largest.
    """

    seconds: float
    spans: list[tuple[float, float]]
    failed: int
    difference: float


def row(clients: int, found: Load, processor: float, bare: BarePipeline, memory: float) -> str:
    times = [(end - begin) * 1e3 for begin, end in found.spans]
    p50, p99 = statistics.median(times), percentile_99(times)
    overtaken = overtakings(found.spans)
    rate, expected = (len(times) - found.failed) / found.seconds, bare.images / bare.seconds
    cells = [
        f"{clients} | {rate:.2f} | {expected:.2f} | {rate / expected:.0%}",
        f"{p50:.0f} | {p99:.0f} | {p99 / p50:.2f} | {percentile_99(overtaken):.0f}, {max(overtaken)}",
        f"{processor:.3f}, {processor / (bare.processor / bare.images):.2f}",
        f"{found.failed} | {found.difference:.1e} | {memory:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def percentile_99(values: list) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def overtakings(spans: list[tuple[float, float]]) -> list[int]:
    """For each request the number of those that began after it and were answered before it."""
    ends: list[float] = []  # of the requests that began later, sorted
    counts = []
    for _, end in sorted(spans, reverse=True):
        counts.append(bisect.bisect_left(ends, end))
        bisect.insort(ends, end)
    return counts


def processor_seconds(process: psutil.Process) -> float:
    used = process.cpu_times()
    return used.user + used.system


def labelled(photos: dict[str, list[Path]]) -> list[list[tuple[str, Path, bytes]]]:
    return [[(name, path, path.read_bytes()) for path in paths] for name, paths in photos.items()]


def start_server(profiles: dict[str, str], args) -> subprocess.Popen:
    words = [word for name, profile in profiles.items() for word in ("--profile", f"{name}={profile}")]
    command = [sys.executable, "-m", "adaptclip_hf.cli", "serve", *words, "--model", str(args.model)]
    server = subprocess.Popen([*command, "--port", str(args.port), *args.server], env=os.environ)
    for _ in range(600):
        try:
            asyncio.run(healthy(args.port))
            return server
        except aiohttp.ClientError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


async def healthy(port: int):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/health") as answer:
        answer.raise_for_status()


async def ask(session, port: int, name: str, path: Path, content: bytes):
    form = aiohttp.FormData({"product": name})
    form.add_field("image", content, filename=path.name)
    async with session.post(f"http://127.0.0.1:{port}/detect", data=form) as answer:
        return answer.status, await answer.json()


async def load(port: int, mixed: list, expected: dict, clients: int, requests: int) -> Load:
    """Clients that send their next request as soon as the last one is answered, on connections that are kept."""
    todo, spans, failed, difference = iter(range(requests)), [], 0, 0.0

    async def client(session):
        nonlocal failed, difference
        for number in todo:
            name, path, content = mixed[number % len(mixed)]
            start = time.perf_counter()
            status, answer = await ask(session, port, name, path, content)
            spans.append((start, time.perf_counter()))
            failed += status != 200
            if status == 200:
                difference = max(difference, abs(answer["score"] - expected[name, path]))

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as session:
        start = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        return Load(time.perf_counter() - start, spans, failed, difference)


async def stopped_in_the_middle(port: int, mixed: list, server: subprocess.Popen) -> tuple[int, int]:
    """How many of 64 requests were answered, and how many never accepted, when the server is told to stop."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as session:
        tasks = [asyncio.create_task(ask(session, port, *mixed[number % len(mixed)])) for number in range(64)]
        await asyncio.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        done = await asyncio.gather(*tasks, return_exceptions=True)
    answered = sum(not isinstance(each, BaseException) and each[0] == 200 for each in done)
    return answered, len(done) - answered


if __name__ == "__main__":
    main()
