"""The command line: `adaptclip COMMAND`, a module a command."""

import argparse
import sys

from huggingface_hub.errors import StrictDataclassError

from . import card, convert, data, detect, evaluate, push, train


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. Exit status 0, 1 when something failed, 2 for a wrong call."""
    parser = build_parser()
    args, more = parser.parse_known_args(arguments)
    if more and args.command != train.NAME:
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    args.more = more  # training arguments, which that command looks at itself
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 1
    except StrictDataclassError as error:
        print(f"adaptclip: {error.__cause__ or error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"adaptclip: {error}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adaptclip",
        description="Finds anomalies in images of things never seen, from no example or a few normal images.",
        epilog="`adaptclip COMMAND --help` explains a command with examples.",
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in (detect, evaluate, train, data, convert, card, push):
        command.add_command(commands)
    return parser
