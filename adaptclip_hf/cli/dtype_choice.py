"""Which dtype a command computes in where its call names none."""

import argparse
from typing import TYPE_CHECKING

from ..passed_over import print_error

if TYPE_CHECKING:
    from ..inspection.deciding import DecidingProfile

DTYPES = (AUTO, FLOAT32, BFLOAT16, FLOAT16) = ("auto", "float32", "bfloat16", "float16")
CHOSEN = (
    "of the weights. auto takes that of the profile, and otherwise bfloat16 where this machine multiplies it clearly "
    "faster than float32 (AMX, AVX512-BF16, a GPU), which is measured once and kept; scores then differ by about "
    "0.001. An export has its own (auto)"
)
ASKED = "of the weights; by default as they were saved, with a profile its own. auto: bfloat16 where it is faster here"


def add_dtype(parser: argparse.ArgumentParser, chooses: bool):
    """
    Args:
        chooses: by default the command takes what suits the machine.
    """
    default, text = (AUTO, CHOSEN) if chooses else (None, ASKED)
    parser.add_argument("--dtype", choices=DTYPES, default=default, help=text)


def chosen_dtype(
    args: argparse.Namespace, device: str | None, profile: "DecidingProfile | None", earlier: str | None
) -> tuple[str | None, str | None]:
    """The dtype that a call names, or else that of an earlier run, the profile's, or what suits the machine; `None` for
    that of the weights. And why, where it was chosen.

    Args:
        earlier: of the run that goes on.
    """
    if args.dtype not in (None, AUTO):
        return args.dtype, None
    if profile is None and earlier is None and args.dtype is None:
        return None, None
    from ..loading import choose_device

    on = choose_device(device)
    if earlier is not None:
        return earlier, "as the run that goes on"
    return machines_dtype(on) if profile is None else profiles_dtype(profile, on.type)


def tell_dtype(args: argparse.Namespace, dtype: str, why: str | None):
    """Says in a line on standard error what was chosen, and why."""
    if why is not None and args.dtype == AUTO and not getattr(args, "quiet", False):
        print_error(f"computing in {dtype}, {why}")


def why_of_export(profile: "DecidingProfile | None", dtype: str) -> str:
    """The reason for the dtype of an export, and that of the profile where it is another one."""
    there = dtype if profile is None else profile.made_by["dtype"]
    return "as it was exported" if there == dtype else f"as it was exported; the profile was made in {there}"


def profiles_dtype(profile: "DecidingProfile", device: str) -> tuple[str | None, str]:
    """The profile's dtype and the reason; or float32 where bfloat16 is slow, if that is measured to be as good."""
    from ..product_rates import bfloat16_gain

    dtype = profile.torch_dtype
    if dtype == BFLOAT16 and device == "cpu" and profile.suits(FLOAT32) and bfloat16_gain() < 1:
        return FLOAT32, "because the profile's bfloat16 is slow here"
    return dtype, "as the profile was made"


def machines_dtype(device) -> tuple[str | None, str]:
    """What a device computes fastest, `None` for the dtype of the weights, and the reason."""
    from ..loading import choose_dtype
    from ..product_rates import bfloat16_gain, name_of

    dtype = choose_dtype(device)
    if device.type != "cpu":
        return dtype and name_of(dtype), f"on {device}"
    if dtype is None:
        return None, "because this machine does not multiply bfloat16 clearly faster"
    return name_of(dtype), f"which this machine multiplies {bfloat16_gain():.1f} times as fast as float32 (--dtype)"
