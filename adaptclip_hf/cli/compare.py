"""`adaptclip compare`: evaluations side by side."""

import argparse
from pathlib import Path


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "compare",
        help="set evaluations side by side and test their differences",
        description="Compares the results of several evaluations, of any models or programs: every figure beside the "
        "first evaluation's, and for image AUROC the interval of a paired bootstrap and DeLong's test.",
        epilog="""examples:
  adaptclip compare results/tiny results/vitl
  adaptclip compare results/a results/b results/c --output compared

The command writes compare.md, compare.csv and, with the extra `plots`, compare.png to OUTPUT. The evaluations need the
same data sets and images; figures that only one of them has are left out.""",
    )
    parser.add_argument("results", nargs="+", metavar="DIR", help="folders that `adaptclip evaluate` wrote")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="names for them (default: their folders' names)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder to write to, besides printing the tables")
    return parser


def run(args: argparse.Namespace) -> int:
    from ..evaluation.comparison import compare, read_run
    from ..evaluation.comparison_report import as_markdown, plot, write_comparison
    from ..files import write_whole

    names = args.names or [None] * len(args.results)
    if len(names) != len(args.results):
        args.parser.error(f"--names: expected {len(args.results)}, one for each folder, got {len(names)}")
    runs = [read_run(*each) for each in zip(args.results, names, strict=True)]
    lines = compare(runs)
    text = as_markdown(runs, lines)
    print(text)
    if args.output is not None:
        write_whole(args.output / "compare.md", text.encode())
        write_comparison(runs, lines, args.output / "compare.csv")
        try:
            plot(runs, lines, args.output / "compare.png")
        except ImportError:
            print("no plot is drawn: it needs matplotlib (`pip install 'adaptclip-hf[plots]'`)")
    return 0
