"""`adaptclip check`: a profile against golden photos, whose labels are known."""

import argparse
from pathlib import Path

from . import argument_types as shared
from . import given_names


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "check",
        help="check a profile on golden photos, whose labels are known, after each change",
        description="Decides golden photos by a profile, and tells which decisions are not the expected ones, and "
        "which have changed since the last check.",
        epilog="""examples:
  adaptclip check bottle golden/             golden/good/*.png must be normal, golden/bad/*.png anomalous
  adaptclip check bottle golden.csv          a list with the columns path and label (good, bad, ok, ng, ...)
  adaptclip fit --update bottle --confirmed 017.png
  adaptclip check bottle golden/ || adaptclip fit --undo bottle    the profile before the update, where it fails

Each check is recorded in the profile's folder (checks.jsonl) and shown by `adaptclip fit --show PROFILE`. A photo that
is one of the profile's own proves nothing, and counts as not checked.

exit status: 0 each decision is the one that is expected, 1 one is not, a photo is gone, cannot be read or is the
profile's own, or the run failed, 2 wrong call""",
    )
    parser.add_argument(
        "profile", metavar="PROFILE", help="folder of a profile that `adaptclip fit` made, or its Hub id"
    )
    parser.add_argument("golden", type=Path, metavar="GOLDEN", help="folder with good/ and bad/, or a list (.csv)")
    parser.add_argument("--by", metavar="NAME", help="who checks, for the record (the login name)")
    shared.add_model_arguments(parser, None, shared.PROFILES_MODEL)
    shared.add_size_limit(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def check_arguments(args: argparse.Namespace):
    """Refuses a call that names what is not there."""
    given_names.require_profile(args.profile)
    given_names.require_model(args.model)
    if not args.golden.exists():
        raise FileNotFoundError(
            f"No golden photos at {args.golden}: there is no such folder or list.{given_names.near(str(args.golden))}"
        )


def run(args: argparse.Namespace) -> int:
    shared.set_size_limit(args)
    import sys

    from tqdm.auto import tqdm

    from ..inspection import InspectionProfile
    from ..inspection.golden import Golden, differences, last_check, nearest, record
    from ..inspection.history import SHORT, shown_time
    from ..reporting import in_red, print_line

    folder = Path(args.profile)
    golden = Golden(args.golden)
    before = last_check(folder, args.golden)
    profile = InspectionProfile.from_pretrained(args.profile)
    detector = shared.load_detector(args, profile)

    def results_of(paths: list[str]):
        with tqdm(paths, desc="golden photos", unit="photo", disable=args.quiet) as bar:
            yield from detector.stream(
                bar, profile=profile, on_error=lambda name, error: print_line(f"not read: {error}")
            )

    check = golden.check(detector, profile, results_of, shared.name_of(args), print_line)
    wrong, changed = differences(check, before)
    for line in changed:
        print_line(f"changed: {line}")
    for line in wrong:
        print(in_red(f"WRONG: {line}", sys.stdout))
    if before is not None:
        of = "the same profile" if before.profile == check.profile else f"profile {before.profile[:SHORT]}"
        print_line(f"last check: {shown_time(before.time)}, with {of}; this is {check.profile[:SHORT]}")
    if near := nearest(check, before):
        print_line(near)
    right, count = sum(photo.is_right for photo in check.photos), len(check.photos)
    print_line(f"{count} golden photos: {right} as expected" + (f", {count - right} not" if right < count else ""))
    if folder.is_dir():
        record(folder, check)
    else:
        print_line(f"not recorded: {args.profile} is no folder here")
    return 1 if wrong else 0
