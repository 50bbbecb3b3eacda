"""The options of `adaptclip detect` by which decisions reach the line."""

import argparse
import os
from pathlib import Path

from .argument_types import option

DECIDED = ("on_anomalous", "sort_into")  # they need a label
OPTIONS = (*DECIDED, "webhook", "mqtt")


def add_delivery_arguments(parser: argparse.ArgumentParser):
    group = parser.add_argument_group(
        "what happens on a decision (docs/line.md)",
        "Each target gets what is decided from when it is first named: in order, at least once, also over stops of "
        "this program or of the target. OUTPUT/outbox.sqlite keeps what waits; the same command again delivers it.",
    )
    group.add_argument(
        "--on-anomalous",
        metavar="COMMAND",
        help="run a program for each anomalous image, such as 'eject.py --photo {path}'. It is split into words once "
        "and run without a shell; {path}, {name}, {score}, {label}, {id} and {time} are filled in, and the decision "
        "comes as JSON on standard input. Another exit status than 0: it is run again",
    )
    group.add_argument(
        "--sort-into",
        type=Path,
        metavar="FOLDER",
        help="copy each photo to FOLDER/anomalous, FOLDER/normal, ...; no photo is overwritten",
    )
    group.add_argument(
        "--webhook",
        metavar="URL",
        help="POST each decision as JSON; any answer but 2xx and it is sent again. ADAPTCLIP_WEBHOOK_TOKEN in the "
        "environment: as `Authorization: Bearer TOKEN`",
    )
    group.add_argument(
        "--mqtt",
        metavar="URL",
        help="publish each decision as JSON: mqtt://user@host:1883/topic?qos=1, or mqtts:// over TLS; the password "
        "from ADAPTCLIP_MQTT_PASSWORD. Needs `pip install 'adaptclip-hf[mqtt]'`",
    )


def add_live(parser: argparse.ArgumentParser):
    parser.add_argument(
        "--live",
        type=address,
        metavar="PORT|HOST:PORT",
        help="show a page meanwhile: last photos, alarms by hour and day, drift, what is not delivered; at this "
        "machine alone unless HOST is another of its addresses",
    )


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port, or an address and a port such as 0.0.0.0:8100, got {text}")
    return host.strip("[]") or "127.0.0.1", int(port)


def check_delivery(args: argparse.Namespace):
    """Refuses a call whose options of delivery contradict others, with exit status 2."""
    if args.live is not None and args.engine != "local":
        args.parser.error("--live belongs to --engine local")
    asked = [name for name in OPTIONS if getattr(args, name) is not None]
    if not asked:
        return
    if args.engine != "local":
        args.parser.error(f"{option(asked[0])} belongs to --engine local")
    if args.false_discovery_rate:
        args.parser.error(
            f"--false-discovery-rate decides when all images are scored, and {option(asked[0])} delivers each decision "
            "at once: leave one out"
        )
    for name in DECIDED:
        if name in asked and not args.profile and args.threshold is None:
            args.parser.error(f"{option(name)} needs a decision: give --profile, or --threshold")
    if args.sort_into is not None:
        require_outside(args)


def require_outside(args: argparse.Namespace):
    """Refuses to sort photos into a folder whose photos are scored: the copies would be scored too."""
    folder, output = os.path.realpath(args.sort_into), Path(os.path.realpath(args.output))
    for path in [*args.paths, *args.input]:
        scored = Path(os.path.realpath(path))
        if Path(folder).is_relative_to(scored) and not (output != scored and Path(folder).is_relative_to(output)):
            args.parser.error(
                f"--sort-into {args.sort_into} lies in {path}, whose photos are scored: name another folder"
            )


def targets_of(args: argparse.Namespace) -> list:
    """The targets that the call names.

    Raises:
        ValueError: one of them cannot be one; names the option.
    """
    from ..delivery.command import Command
    from ..delivery.folder import SortedFolder
    from ..delivery.mqtt import MQTTTopic
    from ..delivery.webhook import Webhook

    kinds = {"on_anomalous": Command, "sort_into": SortedFolder, "webhook": Webhook, "mqtt": MQTTTopic}
    return [kind(getattr(args, name)) for name, kind in kinds.items() if getattr(args, name) is not None]
