"""`adaptclip fit`: a profile of a product, from photos of good parts."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..model_files import PROFILE_FILE
from . import argument_types as shared


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "fit",
        help="make a profile of good parts, which decides at a false-alarm rate of your choice",
        description="Makes a profile of photos of good parts: what they look like, and how other good parts score. "
        "`adaptclip detect --profile` then decides.",
        epilog="""examples:
  adaptclip fit --normal good/ --output bottle                            5 in 100 good parts may be called anomalous
  adaptclip fit --normal good/ --false-alarm-rate 1% --output bottle      needs 99 photos, better 110
  adaptclip fit --normal good/ --defects bad/ --output bottle             also reports how many defects are missed
  adaptclip fit --normal good/ --defects bad/ --choose f1 --output bottle
  adaptclip fit --update bottle --confirmed today/017.png today/031.png   false alarms that were good parts after all
  adaptclip fit --update bottle --normal more/ --drop good/003.png
  adaptclip fit --normal good/ --part-pattern '{part}_view{view}' --output valve     one decision a part

How many photos: a rate of 10 % needs at least 9 calibration photos, 5 % needs 19, 2 % 49 and 1 % 99. By default all
photos make the bank and calibrate, each compared with the others (leave-one-out): no photo is wasted, and the rate
holds as measured, not exactly. Where a split leaves 50 photos for the bank, those of the bank never calibrate (split):
the rate then holds exactly, averaged over draws. "cross" is leave-one-out in five folds. Fewer than the rate needs are
refused. Use photos of different parts and days, as they will come. Copies, also at another size, are left out, and
photos that look bad among the others are named. At the end it pastes defects on some good photos and says which of them
it would find, which is no promise for real ones.

Several photos of one part: photo by photo, ten views at 5 % would reject up to 40 % of good parts. With --part-pattern
parts are calibrated: 19 parts carry 5 %, and the threshold is one that the highest score among a good part's photos
exceeds at that rate. A part is anomalous if one of its photos is. {part} and {view} stand for one letter or more of a
file's name without its ending, * for any; with / folders count too ('{view}/{part}' for a folder a camera). Photos in
different folders are different parts unless the pattern names the folder. In its place a list (.csv or .parquet with
the columns `path` and `part`) may be given as PATH. The profile remembers the pattern.

Two updates of one profile at once wait for each other.

exit status: 0 done, 1 some photo could not be read (it is named, the profile is written without it) or the run failed,
2 wrong call""",
    )
    parser.add_argument("--normal", nargs="+", default=(), metavar="PATH", help="photos of good parts, as they come")
    parser.add_argument("--defects", nargs="+", default=(), metavar="PATH", help="photos of known defects, if any")
    parser.add_argument(
        "--false-alarm-rate", type=shared.rate, metavar="RATE", help="of good parts, such as 0.05 or 5%% (5%%)"
    )
    parser.add_argument("--output", type=Path, help="folder of the profile; with --update the old one by default")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing profile")
    shared.add_object_name(parser)
    parser.add_argument(
        "--choose",
        choices=("false-alarms", "escapes", "f1"),
        help="what sets the threshold: the false-alarm rate (the default), or with --defects the escape rate or the "
        "best F1",
    )
    parser.add_argument(
        "--escape-rate", type=shared.rate, metavar="RATE", help="of defects, with --choose escapes (5%%)"
    )
    parser.add_argument(
        "--calibration",
        choices=("auto", "split", "cross", "leave-one-out"),
        help="which photos make the bank and which calibrate, see below (auto)",
    )
    parser.add_argument("--storage", choices=("float32", "float16", "int8"), help="of the features (float16)")
    parser.add_argument(
        "--bank-size",
        type=shared.positive,
        help="compare with at most this many photos (or tiles), those that represent all others best",
    )
    parser.add_argument(
        "--part-pattern",
        type=shared.part_pattern,
        metavar="PATTERN",
        help="several photos show one part, and the rate is that of parts: how names of photos tell the part, such as "
        "'{part}_view{view}' or '{part}/*' for a folder a part; see below",
    )
    shared.add_augment(parser)
    parser.add_argument("--seed", type=shared.whole, help="of the random draw between bank and calibration (0)")
    parser.add_argument(
        "--verdict",
        action=argparse.BooleanOptionalAction,
        help="paste defects on some good photos and count which it would find; done for a new profile, and with "
        "--update only if asked for",
    )
    shared.add_view_arguments(parser)
    shared.add_size_limit(parser)
    update = parser.add_argument_group("an existing profile")
    update.add_argument(
        "--update", type=Path, metavar="PROFILE", help="add photos to it or drop some, and calibrate it again"
    )
    update.add_argument(
        "--confirmed", nargs="+", default=(), metavar="PATH", help="false alarms that were confirmed as good parts"
    )
    update.add_argument("--drop", nargs="+", default=(), metavar="NAME", help="photos to remove")
    shared.add_model_arguments(parser, None, shared.PROFILES_MODEL)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


MEASURES = ("false_alarm_rate", "escape_rate", "choose", "calibration")
KEPT = ("object_name", "storage", "bank_size", "seed", "augment", "part_pattern")


def run(args: argparse.Namespace) -> int:
    check_arguments(args)
    shared.set_size_limit(args)
    from ..files import NoLocksError
    from ..inspection import InspectionProfile
    from ..inspection.profile_files import saving
    from ..reporting import print_line

    output = args.output or args.update
    if args.update and not args.update.is_dir():
        InspectionProfile.from_pretrained(args.update)  # refused before a folder of its name is made
    with ExitStack() as stack:
        # before the work: the folder can be written, and another update waits until this one is saved
        try:
            stack.enter_context(saving(output, print_line))
        except NoLocksError:
            if args.update:
                raise
        return fit_into(args, output)


def fit_into(args: argparse.Namespace, output: Path) -> int:
    """Fits or updates a profile and saves it; the exit status."""
    from ..data.same_bytes import UsedImage, report_pairs
    from ..image_files import find_images
    from ..inspection import InspectionProfile
    from ..passed_over import PassedOver, print_error
    from ..reporting import print_line
    from ..runs.sources import Source, Sources, is_list

    if (output / PROFILE_FILE).is_file() and output != args.update and not args.overwrite:
        raise ValueError(
            f"{output} holds a profile: name another --output, replace it with --overwrite, or --update it."
        )
    settings = shared.given(args, *MEASURES, *KEPT)
    if "choose" in settings:
        settings["choice"] = settings.pop("choose")
    unreadable, passed_over = [], PassedOver()

    def pass_over(name: str, error: Exception):
        unreadable.append(name)
        print_line(f"left out: {error}")

    parts: dict[str, str] = {}

    def photos(paths: Sequence[str]) -> list[str]:
        lists, others = (tuple(path for path in paths if is_list(path) is wanted) for wanted in (True, False))
        found = [Source(str(path)) for path in find_images(others, passed_over=passed_over)] if others else []
        found += Sources(addresses=lists, passed_over=passed_over)
        parts.update({source.path: source.part for source in found if source.part is not None})
        return list(dict.fromkeys(source.path for source in found))

    settings |= {"on_error": pass_over, "report": print_line, "progress": not args.quiet}
    if args.verdict is not None:
        settings["verdict"] = args.verdict
    if args.update:
        profile = InspectionProfile.from_pretrained(args.update)
        detector = shared.load_detector(args, profile)
        normal = photos(args.normal)
        settings |= {"confirmed": photos(args.confirmed), "defects": photos(args.defects)}
        profile = profile.update(detector, normal, drop=args.drop, parts=parts or None, **settings)
    else:
        model = shared.model_name(args)
        normal, defects = photos(args.normal), photos(args.defects) or None
        roles = [(normal, "a good part"), (defects or (), "a defect")]
        report_pairs((UsedImage(photo, role) for each, role in roles for photo in each), print_error)
        detector = shared.load_detector(args)
        profile = InspectionProfile.fit(
            detector, normal, defects=defects, view=shared.view_of(args), model=model, parts=parts or None, **settings
        )
    profile.save_pretrained(output)
    print("\n".join(filter(None, (profile.describe(), profile.verdict_text, passed_over.describe()))))
    print(f"written: {output}; now: adaptclip detect PHOTOS --profile {output}")
    return 1 if unreadable else 0


def check_arguments(args: argparse.Namespace):
    """Refuses a call whose arguments contradict one another, with exit status 2."""
    if args.update:
        for name in shared.given(args, *shared.VIEW_ARGUMENTS, "augment", "part_pattern"):
            args.parser.error(f"{shared.option(name)} is the profile's own: fit a new one")
    else:
        if not args.normal:
            args.parser.error("--normal PATH... is needed: photos of good parts")
        if not args.output:
            args.parser.error("--output FOLDER is needed")
        if args.confirmed or args.drop:
            args.parser.error("--confirmed and --drop change an existing profile: name it with --update")
