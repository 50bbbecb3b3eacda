"""Types of command line arguments that check what they are given."""

import argparse
from pathlib import Path

DTYPES = ("auto", "float32", "bfloat16", "float16")


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


def rate(text: str) -> float:
    """A share such as 0.05 or 5%."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a rate between 0 and 1, such as 0.05 or 5%, got {text}")
    return value


def tile(text: str) -> int | str:
    return text if text in ("auto", "whole") else positive(text)


def add_view_arguments(parser: argparse.ArgumentParser):
    """How photos are looked at; the same on every command that takes normal images."""
    group = parser.add_argument_group("how photos are looked at (normal ones and queries alike)")
    group.add_argument(
        "--tile",
        type=tile,
        metavar="PIXELS|auto|whole",
        help="side of the tiles that a photo is cut into; auto (the default): whole, but one more than twice as long "
        "as high in squares of its short side; whole: always, squeezed into a square",
    )
    group.add_argument("--overlap", type=float, help="of neighbouring tiles, a share of their side (0.25)")
    group.add_argument(
        "--same-place",
        action="store_true",
        help="compare each tile with normal ones of its place and beside it: for parts that always lie alike",
    )
    group.add_argument(
        "--roi", nargs=4, type=whole, metavar=("X", "Y", "WIDTH", "HEIGHT"), help="look at this part alone, in pixels"
    )
    group.add_argument(
        "--ignore", type=Path, metavar="MASK", help="an image of the photos' size: do not look where it is not black"
    )


VIEW_ARGUMENTS = ("tile", "overlap", "same_place", "roi", "ignore")


def view_of(args: argparse.Namespace):
    """The view that the arguments ask for, or `None` where they ask for none."""
    given = {name: getattr(args, name) for name in VIEW_ARGUMENTS if getattr(args, name) not in (None, False)}
    if not given:
        return None
    from ..engine import View
    from ..processing.image_loading import load_mask

    if "roi" in given:
        given["region"] = tuple(given.pop("roi"))
    if "ignore" in given:
        given["ignore"] = load_mask(given["ignore"])
    return View(**given)


def add_model_arguments(
    parser: argparse.ArgumentParser, default: str | None, otherwise: str = "%(default)s, the small embedded one"
):
    """Which model, and where it runs; the same on every command that scores.

    Args:
        otherwise: what is taken where none is named.
    """
    parser.add_argument("--model", default=default, help=f"folder or Hub id; by default {otherwise}")
    parser.add_argument("--device", help="such as cpu or cuda:0; by default a GPU where there is one")
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        help="of the weights; by default as they were saved. auto: what this machine computes fastest, bfloat16 with "
        "AMX, AVX512-BF16 or a GPU. A profile and its queries need the same one",
    )
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="open a torch export (`adaptclip export --format torch`), whose loading runs code that lies in it",
    )


def load_detector(
    args: argparse.Namespace, model: str, device=None, dtype: str | None = None, backend: str | None = None, **config
):
    """The detector that [`add_model_arguments`] asks for.

    Args:
        model: its name, where `--model` names none.
        device, dtype: where `--device` and `--dtype` name none; an exported folder has a dtype of its own.
        backend: what the model must be made for.
        config: fields of its config to change.
    """
    from ..detector import AnomalyDetector
    from ..model_files import is_exported

    name = args.model or model
    return AnomalyDetector.from_pretrained(
        name,
        backend,
        args.device or device,
        args.dtype or (None if is_exported(name) else dtype),
        trust_remote_code=args.trust_remote_code,
        **config,
    )
