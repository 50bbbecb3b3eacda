"""How long the everyday work takes on this machine: a fit, a photo, a start, a large bank, a batch in other runtimes.

    python benchmarks/everyday.py --good good/ --photos line/ --many many_good/

Commands are whole processes, as people start them. What is compared runs in turn, so that a machine whose speed drifts
touches both alike; medians, with the smallest and the largest. A busy machine is made by four processes that compute.
"""

import argparse
import itertools
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from turns import in_turn

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.benchmarking import describe_machine
from adaptclip_hf.export import export_model
from adaptclip_hf.image_files import find_images
from adaptclip_hf.model_files import DEFAULT_NAME
from adaptclip_hf.processing.image_loading import load_image

COMMAND = [str(Path(sys.executable).with_name("adaptclip"))]
BURNERS = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--good", required=True, help="folder of 40 photos of good parts")
    parser.add_argument("--photos", required=True, help="folder of photos to decide")
    parser.add_argument(
        "--many", help="folder of 256 good photos, for the row `bank`; by default those of --good, again"
    )
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=3, help="of each command (%(default)s)")
    args = parser.parse_args()
    detector = AnomalyDetector.from_pretrained(DEFAULT_NAME, device="cpu", dtype="float32")
    print(f"{describe_machine(detector.device)}, Python {platform.python_version()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        print("fitting", flush=True)
        adaptclip("fit", "--normal", args.good, "--output", work / "profile", "--no-verdict")
        for row in args.rows:
            print(f"\n{row}", flush=True)
            ROWS[row](detector, args, work)


def fit(detector: AnomalyDetector, args: argparse.Namespace, work: Path):
    """A fit on the quiet machine, and with others that compute beside it."""
    call = ("fit", "--normal", args.good, "--output", work / "fitted", "--overwrite")
    jobs = {
        "quiet": lambda: adaptclip(*call),
        "quiet, without verdict": lambda: adaptclip(*call, "--no-verdict"),
        "quiet, float32": lambda: adaptclip(*call, "--dtype", "float32"),
        "quiet, one thread": lambda: adaptclip(*call, OMP_NUM_THREADS="1"),
    }
    timed(jobs, args.rounds)
    with burning(BURNERS):
        busy = timed({"busy": jobs["quiet"], "busy, one thread": jobs["quiet, one thread"]}, args.rounds)
    ratio("busy / busy with one thread", *busy.values())


def detect(detector: AnomalyDetector, args: argparse.Namespace, work: Path):
    """A photo, on the command line and in one process."""
    call = ("detect", "--profile", work / "profile", "--output", work / "results", "--overwrite")
    photos = find_images([args.photos])
    jobs = {
        f"{len(photos)} photos with heatmaps": lambda: adaptclip(*call, args.photos),
        f"{len(photos)} photos without": lambda: adaptclip(*call, args.photos, "--no-heatmaps"),
        "one photo without": lambda: adaptclip(*call, photos[0], "--no-heatmaps"),
    }
    drawn, plain, one = timed(jobs, args.rounds).values()
    for name, seconds in (("with", drawn), ("without", plain)):
        each = (seconds - one) / (len(photos) - 1)
        print(f"  a photo more, {name} heatmaps: {each:.3f} s; all / photos: {seconds / len(photos):.3f} s")
    profile = InspectionProfile.from_pretrained(work / "profile")
    detector = AnomalyDetector.from_pretrained(DEFAULT_NAME, device="cpu", dtype=profile.made_by["dtype"])
    some = photos[:: max(1, len(photos) // 8)]
    pixels = [detector.pixel_values(load_image(photo)) for photo in some]
    reference = detector.prepare(profile)
    jobs = {
        "encoder": lambda: [detector.encode(each) for each in pixels],
        "in one process": lambda: [
            list(detector.score_images([(image, reference)])) for image in detector.reader.read(some, profile.view)
        ],
    }
    ratio("in one process / encoder", *reversed(timed(jobs, 3 * args.rounds, len(some)).values()))


def start(detector: AnomalyDetector, args: argparse.Namespace, work: Path):
    """From the start of a process to the first score, of an export and of the model itself."""
    export, photo = exported(detector, work, "onnx"), find_images([args.photos])[0]
    adaptclip("fit", "--normal", args.good, "--output", work / "profile32", "--no-verdict", "--dtype", "float32")
    call = ("detect", photo, "--output", work / "one", "--overwrite", "--profile", work / "profile32")
    jobs = {
        "the export": lambda: adaptclip(*call, "--model", export),
        "its own detect.py": lambda: run([sys.executable, str(export / "detect.py"), photo]),
        "the model": lambda: adaptclip(*call),
        "adaptclip --help": lambda: adaptclip("--help"),
    }
    timed(jobs, 2 * args.rounds)


def bank(detector: AnomalyDetector, args: argparse.Namespace, work: Path):
    """A score with 256 normal images beside one without any."""
    files = list(itertools.islice(itertools.cycle(find_images([args.many or args.good])), 256))
    pixels = detector.pixel_values(load_image(find_images([args.photos])[0]))
    for dtype in ("float32", "bfloat16"):
        opened = AnomalyDetector.from_pretrained(DEFAULT_NAME, device="cpu", dtype=dtype)
        text, jobs = opened.encode_text(), {}
        for count in (0, 20, 64, 256):
            images = opened.remember(files[:count]) if count else None
            reference = opened.prepare(opened.reference(prompt_bank=images))
            jobs[f"{dtype}, {count} normal"] = scoring(opened, pixels, reference.prompt_bank, text)
        times = timed(jobs, 5 * args.rounds)
        zero, *_, many = times.values()
        ratio("256 normal / none", many, zero)


def scoring(detector: AnomalyDetector, pixels, prompt_bank, text_embeds) -> Callable[[], object]:
    return lambda: detector.score(detector.encode(pixels), prompt_bank, text_embeds)


def batch(detector: AnomalyDetector, args: argparse.Namespace, work: Path):
    """Eight photos at once, in each runtime."""
    eight = [load_image(photo) for photo in itertools.islice(itertools.cycle(find_images([args.photos])), 8)]
    opened = {"torch": detector} | {
        name: AnomalyDetector.from_pretrained(exported(detector, work, name)) for name in ("onnx", "openvino")
    }
    calls = {
        name: [(image, each.prepare(each.reference())) for image in each.reader.read(eight)]
        for name, each in opened.items()
    }
    jobs = {name: batched(each, calls[name]) for name, each in opened.items()}
    times = timed(jobs, 3 * args.rounds)
    for name in ("onnx", "openvino"):
        ratio(f"{name} / torch", times[name], times["torch"])


def batched(detector: AnomalyDetector, call: list) -> Callable[[], object]:
    return lambda: list(detector.score_images(call))


def exported(detector: AnomalyDetector, work: Path, name: str) -> Path:
    folder = work / name
    if not folder.exists():
        export_model(detector, folder, name)
    return folder


def adaptclip(*words, **environment: str):
    run([*COMMAND, *map(str, words)], **environment)


def run(command: list[str], **environment: str):
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def timed(jobs: dict[str, Callable[[], object]], rounds: int, pieces: int = 1) -> dict[str, float]:
    """Median seconds of each job, for one of its pieces; printed."""
    medians = {}
    for name, seconds in in_turn(jobs, rounds).items():
        each = [second / pieces for second in seconds]
        medians[name] = statistics.median(each)
        print(f"  {name}: {medians[name]:.3f} s ({min(each):.3f} to {max(each):.3f})", flush=True)
    return medians


def ratio(name: str, one: float, other: float):
    print(f"  {name}: {one / other:.2f}", flush=True)


@contextmanager
def burning(count: int) -> Iterator[None]:
    """Processes that compute as long as the context lasts."""
    burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(count)]
    for each in burners:
        each.start()
    try:
        yield
    finally:
        for each in burners:
            each.kill()
            each.join()


def burn():
    while True:
        sum(range(100_000))


ROWS = {"fit": fit, "detect": detect, "start": start, "bank": bank, "batch": batch}

if __name__ == "__main__":
    main()
