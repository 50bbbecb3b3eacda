"""`adaptclip detect --engine ray` on this machine: many tiny images with workers and the driver killed, held row for
row against the local engine; and two actors beside one, a thread each.

    python benchmarks/bulk.py --profile bottle/ --image part.png [--images 20000]
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image
from pyarrow import parquet

FOLDERS = 40


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", required=True)
    parser.add_argument("--image", type=Path, required=True, help="of which the many are parts, made small")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--workers-killed", type=int, default=5)
    parser.add_argument("--drivers-killed", type=int, default=2)
    parser.add_argument("--speed-images", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.images:
            survive(args, Path(folder))
        speed(args, Path(folder))


def survive(args, folder: Path):
    many = make_images(args.image, folder / "many", args.images)
    killed, drivers, most = 0, 0, 0.0
    driver = start(args, many, folder / "out")
    while True:
        time.sleep(1.0)
        if driver.poll() is not None:
            break
        most = max(most, psutil.Process(driver.pid).memory_info().rss / 2**20)
        done = rows_in(folder / "out")
        if killed < args.workers_killed and done > args.images * (killed + 1) / (args.workers_killed + 2):
            for actor in actors()[:1]:
                actor.kill()
                killed += 1
        elif drivers < args.drivers_killed and done > args.images * (drivers + 1) / (args.drivers_killed + 1.5):
            driver.send_signal(signal.SIGKILL)
            driver.wait()
            drivers += 1
            time.sleep(3)
            driver = start(args, many, folder / "out")
    found = rows(folder / "out")
    twice = len(found) - len({row["path"] for row in found})
    print(
        f"{len(found)} rows of {args.images} images, {twice} twice; killed: {killed} workers, {drivers} drivers; ",
        end="",
    )
    print(f"driver's memory at most {most:.0f} MiB", flush=True)
    start_time = time.perf_counter()
    command = [sys.executable, "-m", "adaptclip_hf.cli", "detect", str(many), "--profile", args.profile]
    command += ["--output", str(folder / "local"), "--format", "parquet", "--no-heatmaps", "--quiet"]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    local = sorted(parquet.read_table(folder / "local" / "results.parquet").to_pylist(), key=lambda row: row["path"])
    for row in (*found, *local):
        row["time"] = None
    print(
        f"equal to the local run row for row: {found == local} ({time.perf_counter() - start_time:.0f} s)", flush=True
    )


def speed(args, folder: Path):
    """Images a second between the first part and the last, so that starting does not count."""
    many, rates = make_images(args.image, folder / "fewer", args.speed_images), {}
    for actors_used in (1, 2):
        output = folder / f"speed-{len(rates)}-{actors_used}-{time.monotonic()}"
        start(args, many, output, "--actors", str(actors_used)).wait()
        parts = sorted(output.glob("part-*"), key=lambda file: file.stat().st_mtime)
        seconds = parts[-1].stat().st_mtime - parts[0].stat().st_mtime
        rates.setdefault(actors_used, []).append((rows_in(output) - len(parquet.read_table(parts[0]))) / seconds)
        print(f"{actors_used} actors: {rates[actors_used][-1]:.1f} images/s", flush=True)
    print(f"two actors: {sum(rates[2]) / sum(rates[1]):.2f} times one")


def make_images(image: Path, folder: Path, count: int) -> Path:
    """Parts of an image, each another one, 32 pixels a side."""
    source = Image.open(image).convert("RGB").resize((300, 300))
    for index in range(count):
        left, top = index * 7 % 268, index * 13 // 268 % 268
        file = folder / f"{index % FOLDERS:02}" / f"{index:06}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        source.crop((left, top, left + 32, top + 32)).save(file, compress_level=1)
    return folder


def start(args, many: Path, output: Path, *words) -> subprocess.Popen:
    command = [sys.executable, "-m", "adaptclip_hf.cli", "detect", "--engine", "ray", "--quiet", "--input", str(many)]
    command += ["--profile", args.profile, "--output", str(output), *words]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def actors() -> list[psutil.Process]:
    every = psutil.process_iter(["cmdline"])
    return [each for each in every if each.info["cmdline"] and "DetectRead" in each.info["cmdline"][0]]


def rows_in(output: Path) -> int:
    return sum(parquet.read_metadata(file).num_rows for file in output.glob("part-*"))


def rows(output: Path) -> list[dict]:
    every = [row for file in output.glob("part-*") for row in parquet.read_table(file).to_pylist()]
    return sorted(every, key=lambda row: row["path"])


if __name__ == "__main__":
    main()
