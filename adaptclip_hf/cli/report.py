"""`adaptclip report`: the results of `adaptclip detect` as one page."""

import argparse
from pathlib import Path

from .argument_types import positive


def add_command(commands):
    parser = commands.add_parser(
        "report",
        help="one page of what `adaptclip detect` found",
        description="Makes DIR/report.html of the results that `adaptclip detect --output DIR` wrote: one file that "
        "opens anywhere, without a network: summary, histogram, pictures by score, regions, filters.",
        epilog="""examples:
  adaptclip detect line/ --profile bottle/ --output monday
  adaptclip report monday                                  monday/report.html

exit status: 0 done, 1 DIR holds no results, 2 wrong call""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the --output of `adaptclip detect`")
    parser.add_argument("--title", help="of the page (the folder's name by default)")
    parser.add_argument(
        "--images", type=positive, default=200, help="show at most so many, those of the highest scores (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..report import write_report

    print(f"written: {write_report(args.folder, title=args.title, images=args.images)}")
    return 0
