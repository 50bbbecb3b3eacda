"""The command line: `adaptclip COMMAND`, a module a command; a module's `run` imports what the command needs."""

import argparse
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module

from ..machine import leave_room, usage
from ..passed_over import print_error
from ..reporting import is_lost, print_nothing, printable, unfailing_output
from ..stopping import STOPPED_BY, Stopped

INSPECTING = ("detect", "capture", "fit", "check", "report", "demo", "serve")
MEASURING = ("evaluate", "compare", "verify", "export", "benchmark")
WITHOUT_MODEL = ("capture", "report", "compare", "data")
SHARING = ("detect", "fit", "check", "demo", "serve")  # share the machine with what else runs on it
MAKING = ("train", "data", "convert", "card", "push")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. Exit status 0, 1 when something failed, 2 for a wrong call, 130 when stopped by Ctrl-C."""
    with unfailing_output() as output:
        status = run_command(arguments)
        output.flush()
        if is_lost(output):
            tell(f"what was printed is lost: {output.error}")
            status = status or 1
    return status


def run_command(arguments: list[str] | None) -> int:
    before = usage()
    parser = build_parser()
    args, more = parser.parse_known_args(arguments)
    if more and args.command != "train":
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    args.more = more  # training arguments, which that command looks at itself
    try:
        args.check_call(args)  # first: what is wrong with a call is told before torch is imported
        if args.command in SHARING and getattr(args, "engine", None) != "ray":  # whose actors share the cores
            leave_room(before, print_nothing if getattr(args, "quiet", False) else print_error)
        return run_quietly(args)
    except KeyboardInterrupt as stopped:
        print("stopped", file=sys.stderr)
        return stopped.status if isinstance(stopped, Stopped) else STOPPED_BY + signal.SIGINT
    except MemoryError:
        tell("the memory that is free here does not suffice")
        return 1
    except (OSError, ValueError) as error:
        tell(said(error))
        return 1


def tell(message: str):
    """Says in one line on standard error why a command failed."""
    lines = [line.strip() for line in message.splitlines()]
    print(f"adaptclip: {printable(' '.join(filter(None, lines)))}", file=sys.stderr)


def said(error: Exception) -> str:
    """An error for people; one of the system, which has a number, as the reason and the file."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror is not None:
        files = [str(each) for each in (error.filename, error.filename2) if each is not None]
        return ": ".join([error.strerror, " and ".join(files)] if files else [error.strerror])
    return str(error) or type(error).__name__


def run_quietly(args: argparse.Namespace) -> int:
    """Runs the command, with transformers knowing AdaptCLIP and quiet about loading where the command loads a model."""
    from safetensors import SafetensorError

    from ..processing.image_opening import ImageWarning

    args.light = not args.plugin and args.is_light(args)  # whether it needs no torch
    if not args.light:
        prepare_transformers(args.plugin)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # about odd files, which are scored or refused by name
            warnings.simplefilter("ignore" if getattr(args, "quiet", False) else "default", ImageWarning)
            warnings.showwarning = in_one_line(warnings.showwarning)
            return args.run(args)
    except SafetensorError as error:
        if "serializ" in str(error) and "deserializ" not in str(error):
            raise ValueError(f"A .safetensors file cannot be written: {error}") from error
        raise ValueError(f"A .safetensors file cannot be read, it is truncated or damaged: {error}") from error
    except Exception as error:
        if is_about_a_config(error):
            raise ValueError(error.__cause__ or error) from error
        raise


def is_about_a_config(error: Exception) -> bool:
    """Whether it is huggingface_hub's about the fields of a config; who raised it has imported it."""
    errors = sys.modules.get("huggingface_hub.errors")
    return errors is not None and isinstance(error, errors.StrictDataclassError)


def prepare_transformers(plugins: Sequence[str]):
    """Makes transformers know AdaptCLIP and the plug-ins, and quiet about loading; this takes seconds."""
    from transformers.utils import logging

    from ..plugins import load_plugin
    from ..registration import register

    register()
    for plugin in plugins:
        load_plugin(plugin)
    logging.disable_progress_bar()


def in_one_line(show: Callable) -> Callable:
    """Shows what is said about images as a line, beside progress bars, and other warnings as before."""
    from tqdm.auto import tqdm

    from ..processing.image_opening import ImageWarning

    def show_warning(message, category, *place, **more):
        if issubclass(category, ImageWarning):
            tqdm.write(printable(str(message)), file=sys.stderr)
        else:
            show(message, category, *place, **more)

    return show_warning


def check_nothing(args: argparse.Namespace):
    """For commands that check their arguments while they run."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adaptclip",
        description="Finds anomalies in images of things never seen, from no example or a few normal images.",
        epilog="`adaptclip COMMAND --help` explains a command with examples. Exit status: 0 done, 1 something failed, "
        "2 wrong call, 130 stopped by Ctrl-C, 143 by SIGTERM.",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="run a Python file, or an installed plug-in, that registers layouts of data sets or variants of adapters "
        "(examples/plugins); may be given several times, before the command",
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name in (*INSPECTING, *MEASURING, *MAKING):
        command = import_module(f".{name}", __name__)
        command_parser = command.add_command(commands)
        command_parser.formatter_class = argparse.RawDescriptionHelpFormatter
        check = getattr(command, "check_arguments", check_nothing)
        light = getattr(command, "is_light", lambda args: args.command in WITHOUT_MODEL)
        command_parser.set_defaults(run=command.run, check_call=check, is_light=light, parser=command_parser)
    return parser
