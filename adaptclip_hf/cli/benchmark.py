"""`adaptclip benchmark`: measures how fast a model is on this machine."""

import argparse
from pathlib import Path

from ..model_files import DEFAULT_NAME
from .argument_types import positive

RUNTIMES = ("torch", "compiled", "onnx", "openvino")


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "benchmark",
        help="measure how fast a model is on this machine",
        description="Measures encoding, zero-shot and few-shot scoring in every installed runtime, and for comparison "
        "HF's own CLIP tower and the rate at which this machine multiplies matrices.",
        epilog="""examples:
  adaptclip benchmark                                      the embedded model, a few minutes
  adaptclip benchmark --batches 1 --runtimes torch onnx    the time for one image
  adaptclip benchmark --model vitl/ --seconds 10 --output results/

Times are medians of whole calls that start from pixel values; reading and resizing files is not included. "compiled"
means torch.compile, whose minutes of warm-up are not counted. Peak memory is that of this process or of the GPU. On a
shared machine compare only rows of the same run.""",
    )
    parser.add_argument("--model", default=DEFAULT_NAME, help="folder or Hub id (%(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda:0; by default a GPU where there is one")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES, help="(all that are installed)")
    parser.add_argument("--batches", nargs="+", type=positive, default=[1, 8], help="images at a time (1 8)")
    parser.add_argument(
        "--normals", nargs="+", type=positive, default=[1, 4, 64, 256], help="sizes of banks (1 4 64 256)"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="least time for each row (%(default)s)")
    parser.add_argument("--output", type=Path, help="folder for benchmark.json and benchmark.md")
    return parser


def run(args: argparse.Namespace) -> int:
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
