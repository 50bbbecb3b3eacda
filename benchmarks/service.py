"""`adaptclip serve` under load, beside the bare pipeline in the same run: images a second, p50 and p99, and how far its
answers are from the pipeline's.

    python benchmarks/service.py --profile bottle=bottle/ --images bottle=photos/ --profile ... --images ...
    python benchmarks/service.py ... --requests 20000 --clients 8       # a soak; memory before and after, then SIGTERM

Starts a server of its own on this machine's loopback address; ends by itself.
"""

import argparse
import asyncio
import itertools
import os
import signal
import statistics
import subprocess
import sys
import time
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

    detect = pipeline("anomaly-detection", model=args.model)
    expected, bare = {}, 0.0
    for name, paths in photos.items():
        detect(str(paths[0]), profile=profiles[name])
        start = time.perf_counter()
        answers = detect(list(map(str, paths)), profile=profiles[name])
        bare += time.perf_counter() - start
        expected |= {(name, path): answer["score"] for path, answer in zip(paths, answers, strict=True)}
    rate = len(mixed) / bare
    print(f"bare pipeline, one image at a time: {rate:.2f} images/s", flush=True)

    server = start_server(profiles, args)
    try:
        process = psutil.Process(server.pid)
        asyncio.run(load(args.port, mixed, expected, 8, 48))
        print("| clients | images/s | of the pipeline | p50 ms | p99 ms | failed | largest difference | MiB |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for clients in args.clients:
            seconds, times, failed, difference = asyncio.run(load(args.port, mixed, expected, clients, args.requests))
            found = (args.requests - failed) / seconds
            p50, p99 = statistics.median(times) * 1e3, statistics.quantiles(times, n=100)[98] * 1e3
            speed = f"{found:.2f} | {found / rate:.0%} | {p50:.0f} | {p99:.0f}"
            memory = process.memory_info().rss / 2**20
            print(f"| {clients} | {speed} | {failed} | {difference:.1e} | {memory:.0f} |", flush=True)
        answered, refused = asyncio.run(stopped_in_the_middle(args.port, mixed, server))
        print(f"SIGTERM with 64 requests sent: {answered} answered, {refused} not accepted, exit {server.wait(90)}")
    finally:
        server.kill()


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


async def load(port: int, mixed: list, expected: dict, clients: int, requests: int):
    """Seconds, each request's seconds, how many failed, and how far scores are from the pipeline's at most."""
    todo, times, failed, difference = iter(range(requests)), [], 0, 0.0

    async def client(session):
        nonlocal failed, difference
        for number in todo:
            name, path, content = mixed[number % len(mixed)]
            start = time.perf_counter()
            status, answer = await ask(session, port, name, path, content)
            times.append(time.perf_counter() - start)
            failed += status != 200
            if status == 200:
                difference = max(difference, abs(answer["score"] - expected[name, path]))

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as session:
        start = time.perf_counter()
        await asyncio.gather(*(client(session) for _ in range(clients)))
        return time.perf_counter() - start, times, failed, difference


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
