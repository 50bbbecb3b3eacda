"""`adaptclip benchmark`: measures how fast a model is on this machine."""

import argparse
import json
import time
from pathlib import Path

from ..model_files import DEFAULT_NAME
from .argument_types import positive

VERDICT_FILE = "fastest.json"
RUNTIMES = ("torch", "compiled", "onnx", "openvino")


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "benchmark",
        help="find what scores photos fastest on this machine",
        description="Tries every installed runtime and precision in turn, says within two minutes which is the fastest "
        "and what it changes, and prints the commands for it. --table measures encoding, zero-shot and few-shot "
        "scoring in each, and for comparison HF's own CLIP tower and the rate at which this machine multiplies "
        "matrices.",
        epilog="""examples:
  adaptclip benchmark                                      the embedded model: what is fastest here, within two minutes
  adaptclip benchmark --images parts/good                  on your photos; with eight, int8 too, if there is time
  adaptclip benchmark --model vitl/ --budget 600           time enough to export a large model
  adaptclip benchmark --table --batches 1 --runtimes torch onnx      a table: the time for one image
  adaptclip benchmark --table --model vitl/ --seconds 10 --output results/

For the verdict one photo at a time is compared with two normal images; the package has photos of its own, which are
compared beside yours. An export is written to a temporary folder; one that does not fit into the time is left out and
named, and so is a runtime that is not installed. The default is what `adaptclip detect` does by itself.

In the table times are medians of whole calls that start from pixel values; reading and resizing files is not included.
"compiled" means torch.compile, whose minutes of warm-up are not counted. Peak memory is that of this process or of the
GPU. On a shared machine compare only rows of the same run.""",
    )
    parser.add_argument("--model", default=DEFAULT_NAME, help="folder or Hub id (%(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda:0; by default a GPU where there is one")
    parser.add_argument("--images", nargs="+", metavar="PATH", default=(), help="photos to compare scores on")
    parser.add_argument(
        "--budget", type=float, default=120.0, help="about so many seconds until the verdict (%(default)g)"
    )
    parser.add_argument("--json", action="store_true", help="print the verdict and all that was tried as JSON")
    parser.add_argument("--table", action="store_true", help="measure a table of computations; the rest is for it")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES, help="(all that are installed)")
    parser.add_argument("--batches", nargs="+", type=positive, default=[1, 8], help="images at a time (1 8)")
    parser.add_argument(
        "--normals", nargs="+", type=positive, default=[1, 4, 64, 256], help="sizes of banks (1 4 64 256)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="least time for each row (%(default)s)")
    parser.add_argument("--output", type=Path, help="folder for fastest.json, or benchmark.json and benchmark.md")
    return parser


def run(args: argparse.Namespace) -> int:
    return run_table(args) if args.table else run_verdict(args)


def run_verdict(args: argparse.Namespace) -> int:
    begun = time.monotonic()  # importing torch is part of what a user waits for
    from ..fastest import find_fastest
    from ..files import write_json
    from ..image_files import find_images
    from ..reporting import print_line, print_nothing

    images = [str(path) for path in find_images(args.images)] if args.images else []
    report = print_nothing if args.json else print_line
    budget = args.budget - (time.monotonic() - begun)
    found = find_fastest(args.model, args.device, images, budget, report, progress=True)
    if args.json:
        print(json.dumps(found, indent=2))
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        write_json(args.output / VERDICT_FILE, found)
        report(f"written: {args.output / VERDICT_FILE}")
    return 0


def run_table(args: argparse.Namespace) -> int:
    from ..benchmarking import benchmark, table
    from ..files import write_json, write_whole

    def report(line: str):
        print(line, flush=True)

    results = benchmark(args.model, args.device, args.runtimes, args.batches, args.normals, args.seconds, report)
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        write_json(args.output / "benchmark.json", results)
        write_whole(args.output / "benchmark.md", table(results).encode())
        print(f"written: {args.output / 'benchmark.md'}")
    return 0
