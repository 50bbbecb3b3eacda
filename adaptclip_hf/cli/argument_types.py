"""What commands share: types of arguments that check their values, options, and what the options ask for."""

import argparse
import math
from pathlib import Path

from ..model_files import DEFAULT_NAME, is_exported
from .dtype_choice import add_dtype, chosen_dtype, tell_dtype, why_of_export

PROFILES_MODEL = f"the profile's, or {DEFAULT_NAME}, the small embedded one"


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


def area(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def zone(text: str) -> tuple[str, tuple[int, int, int, int], float | None]:
    """NAME:LEFT,TOP,WIDTH,HEIGHT[:MIN_AREA]"""
    parts = text.split(":")
    numbers = parts[1].split(",") if len(parts) in (2, 3) else []
    if len(numbers) != 4 or not all(each.strip().isdecimal() for each in numbers):
        raise argparse.ArgumentTypeError(
            f"expected NAME:LEFT,TOP,WIDTH,HEIGHT or NAME:LEFT,TOP,WIDTH,HEIGHT:MIN_AREA in whole pixels, got {text}"
        )
    left, top, width, height = map(int, numbers)
    return parts[0], (left, top, width, height), area(parts[2]) if len(parts) == 3 else None


def tile(text: str) -> int | str:
    return text if text in ("auto", "whole") else positive(text)


def part_pattern(text: str) -> str:
    from ..inspection.parts import PartPattern

    try:
        return PartPattern(text).text
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def bit_depth(text: str) -> int:
    if not text.isdigit() or not 8 <= int(text) <= 16:
        raise argparse.ArgumentTypeError(f"expected 8 to 16 bits, got {text}")
    return int(text)


def given(args: argparse.Namespace, *names: str) -> dict:
    """The arguments of these names that the call has."""
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value is not None and value is not False}


def option(name: str) -> str:
    """How an argument is written in a call."""
    return f"--{name.replace('_', '-')}"


def add_object_name(parser):
    parser.add_argument("--object-name", help="the word for the object in the text prompts (the model's by default)")


def add_address_arguments(parser: argparse.ArgumentParser, port: int):
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s: this machine alone)")
    parser.add_argument("--port", type=positive, default=port, help="(%(default)s)")


def add_view_arguments(parser: argparse.ArgumentParser):
    """How images are cut and compared; the same on every command that takes normal images."""
    group = parser.add_argument_group("how photos are looked at (normal ones and queries alike)")
    group.add_argument(
        "--tile",
        type=tile,
        metavar="PIXELS|auto|whole",
        help="side of the tiles that a photo is cut into. auto (the default) cuts only a photo that is more than twice "
        "as long as high, into squares of its short side; whole cuts none and squeezes it into a square",
    )
    group.add_argument("--overlap", type=float, help="of neighbouring tiles, as a share of their side (0.25)")
    places = group.add_mutually_exclusive_group()
    places.add_argument(
        "--same-place",
        action="store_true",
        help="compare each tile only with normal tiles at and beside its position: for parts that always lie alike. "
        "Without it a profile compares with those at its position alone where the good photos lie alike, which is "
        "measured and told, and with the 64 that represent all best elsewhere",
    )
    places.add_argument(
        "--any-place", action="store_true", help="compare each tile with normal tiles of all positions in any case"
    )
    group.add_argument(
        "--roi", nargs=4, type=whole, metavar=("X", "Y", "WIDTH", "HEIGHT"), help="look only at this part, in pixels"
    )
    group.add_argument(
        "--ignore",
        type=Path,
        metavar="MASK",
        help="an image of the photos' size; where it is not black, photos are ignored",
    )
    group.add_argument(
        "--bit-depth",
        type=bit_depth,
        metavar="8..16",
        help="the bits that the camera's values use in 16-bit grey files; by default what each file says, or all 16",
    )


VIEW_ARGUMENTS = ("tile", "overlap", "same_place", "any_place", "roi", "ignore", "bit_depth")


def add_augment(parser: argparse.ArgumentParser):
    parser.add_argument(
        "--augment",
        choices=("auto", "none", "rotations", "flips"),
        help="compare with copies of the normal photos too, turned or mirrored, for parts that lie in any direction; "
        "auto turns where that brings the photos nearer to one another (auto)",
    )


def add_size_limit(parser: argparse.ArgumentParser):
    parser.add_argument(
        "--megapixels", type=positive, help="size limit of a photo; a larger one is named and passed over (178)"
    )


def set_size_limit(args: argparse.Namespace):
    """Lets this process open photos of up to `--megapixels`."""
    from PIL import Image

    if args.megapixels:  # Pillow refuses what is more than twice its limit
        Image.MAX_IMAGE_PIXELS = args.megapixels * 1_000_000 // 2


def view_of(args: argparse.Namespace):
    """The view that the arguments ask for, or `None` where they ask for none."""
    asked = given(args, *VIEW_ARGUMENTS)
    if not asked:
        return None
    from ..engine import View
    from ..processing.image_loading import load_mask

    if "roi" in asked:
        asked["region"] = tuple(asked.pop("roi"))
    if asked.pop("any_place", False):
        asked["same_place"] = False
    if "ignore" in asked:
        asked["ignore"] = load_mask(asked["ignore"])
    return View(**asked)


def add_model_arguments(
    parser: argparse.ArgumentParser,
    default: str | None,
    otherwise: str = "%(default)s, the small embedded one",
    chooses_dtype: bool = False,
):
    """Which model, and where it runs; the same on every command that scores.

    Args:
        otherwise: which model is taken where the call names none.
        chooses_dtype: by default the dtype is what suits the machine.
    """
    parser.add_argument("--model", default=default, help=f"folder or Hub id; by default {otherwise}")
    parser.add_argument("--device", help="such as cpu or cuda:0; by default a GPU where there is one")
    add_dtype(parser, chooses_dtype)
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="open the torch export that --model names (`adaptclip export --format torch`): loading it runs code that "
        "it contains",
    )


def model_name(args: argparse.Namespace, profile=None) -> str:
    """The model that `--model` names, or the profile's, or the embedded one.

    Raises:
        FileNotFoundError: the profile names a folder that is not there.
    """
    if args.model or profile is None:
        return args.model or DEFAULT_NAME
    if Path(profile.model).is_absolute() and not Path(profile.model).exists():
        raise FileNotFoundError(
            f"The profile was made with the model in {profile.model}, which is not there: say where it lies now "
            "(--model FOLDER)."
        )
    return profile.model


def load_detector(
    args: argparse.Namespace,
    profile=None,
    device=None,
    backend: str | None = None,
    earlier_dtype: str | None = None,
    **config,
):
    """The detector that [`add_model_arguments`] asks for.

    Args:
        profile: its model and dtype are taken where the arguments name none; an exported folder has its own dtype.
        earlier_dtype: of the run that goes on.
        device: where `--device` names none.
        backend: what the model must be made for.
        config: fields of its config to change.
    """
    from ..detector import AnomalyDetector

    name, device = model_name(args, profile), args.device or device
    chosen = (args.dtype, None) if is_exported(name) else chosen_dtype(args, device, profile, earlier_dtype)
    dtype, why = chosen
    detector = AnomalyDetector.from_pretrained(
        name, backend, device, dtype, trust_remote_code=trusts_code(args), **config
    )
    tell_dtype(args, detector.dtype, why_of_export(profile, detector.dtype) if detector.is_export else why)
    return detector


def name_of(args: argparse.Namespace) -> str | None:
    """Who makes the call: `--by`, or the login name where there is one."""
    import getpass

    try:
        return args.by or getpass.getuser()
    except (OSError, KeyError, ImportError):
        return None


def trusts_code(args: argparse.Namespace) -> bool:
    """Whether code that a model brings may run: of one that the call names, never of one that a profile names."""
    return args.trust_remote_code and args.model is not None
