"""`adaptclip demo`: good photos in, decisions out, on a page."""

import argparse

from ..model_files import DEFAULT_NAME
from .argument_types import add_address_arguments, add_model_arguments, load_detector


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "demo",
        help="try it on a page",
        description="Opens a page that makes a profile of good photos and inspects other photos: where to look is "
        "drawn with the mouse, results are reviewed as in `adaptclip report`, and decisions make the next profile. "
        "Needs `pip install 'adaptclip-hf[demo]'`.",
        epilog="""examples:
  adaptclip demo                              at http://127.0.0.1:7860, with example products at hand
  adaptclip demo --model me/adaptclip-parts   with another model

The page works offline. A profile that it saves decides in `adaptclip detect --profile` as it does on the page.""",
    )
    add_model_arguments(parser, DEFAULT_NAME, chooses_dtype=True)
    add_address_arguments(parser, 7860)
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    return parser


def run(args: argparse.Namespace) -> int:
    try:
        from ..demo.page import launch
    except ImportError as error:
        raise ValueError(f"`adaptclip demo` needs `pip install 'adaptclip-hf[demo]'` ({error}).") from error
    launch(load_detector(args), args.host, args.port, not args.no_browser)
    return 0
