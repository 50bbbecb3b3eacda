"""`adaptclip demo`: good photos in, decisions out, on a page."""

import argparse

from ..model_files import DEFAULT_NAME
from .argument_types import add_model_arguments, load_detector, positive


def add_command(commands):
    parser = commands.add_parser(
        "demo",
        help="try it on a page",
        description="Opens a page on which good photos are dropped, a profile is made, and other photos are inspected: "
        "map, regions and p-value, the threshold as a slider. Needs `pip install 'adaptclip-hf[demo]'`.",
        epilog="""examples:
  adaptclip demo                              at http://127.0.0.1:7860, with example products at hand
  adaptclip demo --model me/adaptclip-parts   with another model

The page works offline. A profile that it saves decides in `adaptclip detect --profile` as it does on the page.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(parser, DEFAULT_NAME)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s: this machine alone)")
    parser.add_argument("--port", type=positive, default=7860, help="(%(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="open none")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        from ..demo.page import launch
    except ImportError as error:
        raise ValueError(f"`adaptclip demo` needs `pip install 'adaptclip-hf[demo]'` ({error}).") from error
    launch(load_detector(args, args.model), args.host, args.port, not args.no_browser)
    return 0
