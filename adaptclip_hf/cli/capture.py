"""`adaptclip capture`: takes photos from a camera or a video."""

import argparse
from contextlib import ExitStack
from pathlib import Path

from .argument_types import area as above_zero
from .argument_types import positive
from .delivery_arguments import address

PORT = ("127.0.0.1", 8200)


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "capture",
        help="take photos from a camera or a video into a folder",
        description="Takes photos from a USB camera, an RTSP stream or a video file, and writes each as a file of "
        "FOLDER, whole and at once. `adaptclip detect FOLDER --watch` beside it decides them: each of the two can be "
        "stopped and started again alone. Needs `pip install 'adaptclip-hf[video]'`.",
        epilog="""examples:
  adaptclip capture 0 good/ --trigger still --photos 40        40 good parts, put before the camera one by one
  adaptclip fit --normal good/ --output bottle

  adaptclip capture rtsp://line@10.0.0.7/stream1 line/ --every 2
  adaptclip detect line/ --profile bottle --watch --output today     in another terminal

  adaptclip capture 0 line/ --trigger http --port 8200         and where the part lies right:
  curl -X POST http://127.0.0.1:8200/                          {"photo": "20260302T074109.318Z-000001.jpg"}

A stream that breaks off is tried again after 0.5 s, then after twice as long each time, up to 30 s. A video file is
read as fast as it goes, by its own clock.

exit status: 0 done, or stopped where the source has no end, 1 the source cannot be opened or a photo not written,
2 wrong call; a file's capture that is stopped: 130 by Ctrl-C, 143 by SIGTERM""",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a number or /dev/video0: a USB camera (Linux); rtsp://user@host/path or rtsps://: a stream, its password "
        "from ADAPTCLIP_CAMERA_PASSWORD in the environment; or a video file",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="gets the photos; made where it is not there")
    when = parser.add_mutually_exclusive_group(required=True)
    when.add_argument(
        "--every", type=above_zero, metavar="SECONDS", help="a photo of the first picture, then every so many seconds"
    )
    when.add_argument(
        "--trigger",
        choices=("still", "http"),
        help="still: one photo each time that motion has stopped for 0.4 s; http: one for each POST, which is answered "
        "with the photo's name",
    )
    parser.add_argument(
        "--port",
        type=address,
        metavar="PORT|HOST:PORT",
        help="of --trigger http (8200); at this machine alone unless HOST is another of its addresses",
    )
    parser.add_argument("--photos", type=positive, metavar="N", help="end after so many photos")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    return parser


def check_arguments(args: argparse.Namespace):
    from ..camera.source import is_live

    if args.port is not None and args.trigger != "http":
        args.parser.error("--port belongs to --trigger http")
    if args.trigger == "http" and not is_live(args.source):
        args.parser.error(
            f"--trigger http asks for what is seen now, and {args.source} is a file: take --every or --trigger still"
        )


def run(args: argparse.Namespace) -> int:
    from tqdm.auto import tqdm

    from ..camera.http_trigger import posted
    from ..camera.photos import capture
    from ..camera.source import Source, lasting_pictures
    from ..camera.triggers import Every, Still, Trigger
    from ..reporting import print_line, printable
    from ..stopping import stopped_by_signals

    source = Source(args.source)
    args.folder.mkdir(parents=True, exist_ok=True)
    pictures = photos = 0
    with ExitStack() as stack:
        stack.enter_context(stopped_by_signals())
        trigger: Trigger
        if args.trigger == "http":
            trigger, shown = stack.enter_context(posted(*(args.port or PORT)))
            print_line(f"POST {shown} takes a photo")
        else:
            trigger = Still() if args.trigger == "still" else Every(args.every)
        progress = stack.enter_context(tqdm(desc=source.shown, unit=" pictures", disable=args.quiet or None))
        try:
            for photo in capture(lasting_pictures(source, print_line), trigger, args.folder):
                pictures += 1
                photos += photo is not None
                progress.set_postfix_str(f"{photos} photos", refresh=photo is not None)
                progress.update()
                if photos == args.photos:
                    break
        except KeyboardInterrupt:
            if not source.is_live:
                raise
    print_line(printable(f"{photos} photos of {pictures} pictures: {args.folder}"))
    return 0
