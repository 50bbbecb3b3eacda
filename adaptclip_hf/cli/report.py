"""`adaptclip report`: makes one page from the results of `adaptclip detect`."""

import argparse
from pathlib import Path

from .argument_types import positive


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "report",
        help="make a page from the results of `adaptclip detect`",
        description="Makes DIR/report.html from the results that `adaptclip detect --output DIR` wrote: one file with "
        "summary, histogram, images by score beside their maps, regions and filters. It opens in any browser, without "
        "a network. There you review images, which gives exact intervals and decisions.json, and try other thresholds.",
        epilog="""examples:
  adaptclip detect line/ --profile bottle/ --output monday
  adaptclip report monday                                  monday/report.html

exit status: 0 done, 1 DIR holds no results, 2 wrong call""",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the --output of `adaptclip detect`")
    parser.add_argument("--title", help="title of the page (the folder's name by default)")
    parser.add_argument(
        "--images", type=positive, default=200, help="number of images to show, highest scores first (%(default)s)"
    )
    parser.add_argument(
        "--sample",
        type=positive,
        default=60,
        help="number of normal images, drawn at random from all, that the page offers for review: only they tell "
        "how many defects pass as normal. Without one defect among 60 it is below 6.0 %% with 95 %% certainty "
        "(%(default)s)",
    )
    return parser


def run(args: argparse.Namespace) -> int:
    from ..report import write_report
    from ..reporting import print_line

    file = write_report(args.folder, title=args.title, images=args.images, sample=args.sample, report=print_line)
    print_line(f"written: {file}")
    return 0
