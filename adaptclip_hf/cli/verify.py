"""`adaptclip verify`: whether a model reproduces the published figures."""

import argparse
from pathlib import Path

from .argument_types import add_model_arguments, load_detector
from .evaluate import SEEDS, SHOTS, add_evaluation_arguments


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "verify",
        help="check whether a model reproduces the published figures",
        description="Evaluates a model by the paper's protocol and compares every figure with the published one of the "
        "same data set, category, number of shots and metric.",
        epilog="""examples:
  adaptclip convert --checkpoint csgaobb/AdaptCLIP --trained-on mvtec --output adaptclip-vitl
  adaptclip verify --model adaptclip-vitl --data visa:/data/VisA btad:/data/BTAD --output verified

The command writes verify.md, to paste into an issue, and everything that `adaptclip evaluate` writes to OUTPUT. If it
is stopped, the same call continues. A figure is reproduced if it lies within three standard deviations of the published
one. These count the deviations of both over their seeds, and 0.1 per cent for rounding.

exit status: 0 every figure is reproduced, 1 a figure is not, or none was published for these data sets""",
    )
    add_model_arguments(parser, None, "none: name the one whose figures were published")
    add_evaluation_arguments(parser)
    parser.add_argument("--output", type=Path, default=Path("verified"), metavar="DIR", help="(%(default)s)")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.model is None:
        args.parser.error("--model is needed: the one whose figures were published")
    from ..evaluation.evaluate import evaluate
    from ..evaluation.verification import compared_lines, verdict
    from ..files import write_whole

    results = evaluate(
        load_detector(args),
        args.data,
        args.output,
        args.shots or SHOTS,
        args.seeds or SEEDS,
        args.batch_size,
        progress=not args.quiet,
        model_name=args.model,
    )
    text, compared = verdict(results), compared_lines(results)
    write_whole(args.output / "verify.md", text.encode())
    print(text)
    return 0 if compared and not any(line["differs"] for line in compared) and not results["failures"] else 1
