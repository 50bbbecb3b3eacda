"""`adaptclip verify`: whether the published figures come out."""

import argparse
from pathlib import Path

from .argument_types import add_model_arguments, load_detector, positive, whole


def add_command(commands):
    parser = commands.add_parser(
        "verify",
        help="say whether the published figures are reproduced",
        description="Evaluates a model by the paper's protocol and holds every figure against the published one of its "
        "data set, category, number of shots and metric.",
        epilog="""examples:
  adaptclip convert --checkpoint csgaobb/AdaptCLIP --trained-on mvtec --output adaptclip-vitl
  adaptclip verify --model adaptclip-vitl --data visa:/data/VisA btad:/data/BTAD --output verified

Written to OUTPUT: verify.md, to paste into an issue, beside all that `adaptclip evaluate` writes; stopped and started
again it goes on. A figure is reproduced when it lies within three standard deviations of the published one: those of
both over their seeds, and 0.1 per cent for the rounding.

exit status: 0 every figure is reproduced, 1 one is not, or nothing was published of these data sets""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC", help="LAYOUT:FOLDER or folder, one or more")
    add_model_arguments(parser, None, "none: name the one whose figures were published")
    parser.add_argument("--output", type=Path, default=Path("verified"), metavar="DIR", help="(%(default)s)")
    parser.add_argument("--shots", type=whole, nargs="+", default=[0, 1, 2, 4], metavar="K", help="(0 1 2 4)")
    parser.add_argument("--seeds", type=whole, nargs="+", default=[10, 20, 30], metavar="N", help="(10 20 30)")
    parser.add_argument("--batch-size", type=positive, default=4, metavar="B", help="images at a time (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    if args.model is None:
        args.parser.error("--model is needed: the one whose figures were published")
    from ..evaluation.evaluate import evaluate
    from ..evaluation.verification import checks_of, verdict
    from ..files import write_whole

    results = evaluate(
        load_detector(args, args.model),
        args.data,
        args.output,
        shots=args.shots,
        seeds=args.seeds,
        batch_size=args.batch_size,
        model_name=args.model,
        progress=not args.quiet,
    )
    said, checks = verdict(results), checks_of(results)
    write_whole(args.output / "verify.md", said.encode())
    print(said)
    return 0 if checks and all(check.reproduced for check in checks) and not results["failures"] else 1
