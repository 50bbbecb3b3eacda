"""`adaptclip compare`: evaluations side by side."""

import argparse
from pathlib import Path


def add_command(commands):
    parser = commands.add_parser(
        "compare",
        help="set evaluations side by side, with what their differences are worth",
        description="Compares the results of several evaluations, of several models or programs: every figure beside "
        "the first one's, and for image AUROC the interval of a paired bootstrap and DeLong's test.",
        epilog="""examples:
  adaptclip compare results/tiny results/vitl
  adaptclip compare results/a results/b results/c --output compared

Written to OUTPUT: compare.md, compare.csv and, with the extra `plots`, compare.png. The evaluations need the same data
sets and images; figures that only one of them has are left out.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", nargs="+", metavar="DIR", help="folders that `adaptclip evaluate` wrote")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what they are called (their folders' names)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder to write; without it the table is printed")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    from ..evaluation.comparison import compare, plot, read_run, report, write_csv

    names = args.names or [None] * len(args.results)
    if len(names) != len(args.results):
        args.parser.error(f"--names: expected {len(args.results)}, one for each folder, got {len(names)}")
    runs = [read_run(*each) for each in zip(args.results, names, strict=True)]
    lines = compare(runs)
    said = report(runs, lines)
    print(said)
    if args.output is not None:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "compare.md").write_text(said, encoding="utf-8")
        write_csv(runs, lines, args.output / "compare.csv")
        try:
            plot(runs, lines, args.output / "compare.png")
        except ImportError:
            print("no plot: `pip install 'adaptclip-hf[plots]'` brings matplotlib")
    return 0
