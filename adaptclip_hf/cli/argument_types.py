"""Types of command line arguments that check what they are given."""

import argparse


def probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text}")
    return value


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text}")
    return int(text)


def whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text}")
    return int(text)


def add_model_arguments(parser: argparse.ArgumentParser, default: str):
    """Which model, and where it runs; the same on every command that scores."""
    parser.add_argument(
        "--model", default=default, help="folder, Hub id or %(default)s, the small embedded one (the default)"
    )
    parser.add_argument("--device", help="such as cpu or cuda:0; by default a GPU where there is one")
