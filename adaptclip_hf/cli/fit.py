"""`adaptclip fit`: a profile of a product, from photos of good parts."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..model_files import PROFILE_FILE
from . import argument_types as shared
from . import given_names


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
  adaptclip fit --normal good/ --min-area 0.5 --scale 0.05 --output bottle    regions from 0.5 mm² count
  adaptclip fit --normal good/ --min-area 400 --zone seal:40,60,300,80:25 --output bottle
  adaptclip fit --update bottle --confirmed today/017.png today/031.png   false alarms that were good parts after all
  adaptclip fit --update bottle --decisions decisions.json                what was reviewed on the page of a report
  adaptclip fit --update bottle --normal more/ --drop 003.png
  adaptclip fit --undo bottle                                             the profile before that; once more: forth
  adaptclip fit --show bottle                                             what it is, and who changed it when
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

Two updates of one profile at once wait for each other. The profile before an update is kept in the folder, and
`adaptclip check` holds the new one against photos whose label is known.

exit status: 0 done, 1 some photo is gone or could not be read (it is named, the profile is written without it) or the
run failed, 2 wrong call""",
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
    areas = parser.add_argument_group("which regions decide, in place of the score (with --update: from now on)")
    areas.add_argument(
        "--min-area",
        type=shared.area,
        metavar="PIXELS|MM2",
        help="a photo is anomalous if a connected region is at least so large: in pixels of the photo, or with --scale "
        "in square millimetres. How high the map must be there is calibrated, so that the false-alarm rate holds",
    )
    areas.add_argument("--scale", type=shared.area, metavar="MM", help="millimetres along a pixel of the photo")
    areas.add_argument(
        "--zone",
        type=shared.zone,
        action="append",
        metavar="NAME:LEFT,TOP,WIDTH,HEIGHT[:MIN_AREA]",
        help="a part of the photo with a limit of its own, in pixels of the photo; may be given again. Without its "
        "MIN_AREA it has that of --min-area, and without both each region there counts, as elsewhere",
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
    update.add_argument(
        "--decisions",
        type=Path,
        metavar="FILE",
        help="decisions of a review, as the page of a report exports them: good parts are confirmed, defects are known",
    )
    update.add_argument(
        "--drop",
        nargs="+",
        default=(),
        metavar="NAME",
        help="photos to remove, by path, or by file name if only one has it",
    )
    update.add_argument("--by", metavar="NAME", help="who does this, for the profile's history (the login name)")
    update.add_argument(
        "--undo",
        type=Path,
        metavar="PROFILE",
        help="bring back the profile before the last change; again: the last one",
    )
    update.add_argument("--show", metavar="PROFILE", help="describe a profile, and who changed it when")
    shared.add_model_arguments(parser, None, shared.PROFILES_MODEL, chooses_dtype=True)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


MEASURES = ("false_alarm_rate", "escape_rate", "choose", "calibration")
ALONE = ("update", "normal", "defects", "confirmed", "decisions", "drop", "output")
KEPT = ("object_name", "storage", "bank_size", "seed", "augment", "part_pattern")


def run(args: argparse.Namespace) -> int:
    if args.show:
        return show(args.show)
    if args.undo:
        return undo(args)
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
    from ..inspection import Acceptance, InspectionProfile
    from ..inspection.history import describe_history
    from ..passed_over import PassedOver, print_error
    from ..reporting import print_line
    from ..runs.sources import Source, Sources, is_list

    require_free(output, args)  # again: another call may have written it since
    settings = shared.given(args, *MEASURES, *KEPT)
    if "choose" in settings:
        settings["choice"] = settings.pop("choose")
    if args.min_area or args.zone:
        settings["acceptance"] = Acceptance.of(args.min_area, args.scale, args.zone or ())
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

    settings |= {"on_error": pass_over, "report": print_line, "progress": not args.quiet, "by": shared.name_of(args)}
    if args.verdict is not None:
        settings["verdict"] = args.verdict
    if args.update:
        profile = InspectionProfile.from_pretrained(args.update)
        normal = photos(args.normal)
        settings |= {"confirmed": photos(args.confirmed), "defects": photos(args.defects)}
        if args.decisions:
            unreadable += add_decisions(args.decisions, profile, settings)
        detector = shared.load_detector(args, profile)
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
    tell(profile)
    if args.update:
        print_line(describe_history(profile.history)[-1])
    print(
        "\n".join(
            filter(
                None, (passed_over.describe(), f"written: {output}; now: adaptclip detect PHOTOS --profile {output}")
            )
        )
    )
    if args.update == output:
        print(f"the profile before is kept: adaptclip fit --undo {output}")
    if checked := last_check(output):
        print(f"its golden photos were checked before that: adaptclip check {output} {checked.golden}")
    return 1 if unreadable else 0


def add_decisions(file: Path, profile, settings: dict) -> list[str]:
    """Adds the photos of a file of decisions to an update; returns the paths of those that are gone."""
    from ..inspection.decisions_file import Decisions, place_of, require_own
    from ..reporting import print_line

    decisions, digest = Decisions.read(file)
    require_own(profile, digest, file, print_line)
    if not decisions.confirmed + decisions.defects:
        why = f"none of its {len(decisions.gone)} photos is there" if decisions.gone else "it holds no decision"
        raise ValueError(f"{file}: {why}, such as {decisions.gone[0]}." if decisions.gone else f"{file}: {why}.")
    for path in decisions.gone:
        print_line(f"left out, it is gone: {path}")
    for name, others in (("confirmed", decisions.defects), ("defects", decisions.confirmed)):
        named = set(map(place_of, settings[name]))
        for path in others:
            if place_of(path) in named:
                raise ValueError(f"{path}: {file} judges it otherwise than {shared.option(name)}: leave one out.")
    for name, added in (("confirmed", decisions.confirmed), ("defects", decisions.defects)):
        settings[name] = [*settings[name], *(path for path in added if path not in settings[name])]
    settings["reviews"] = decisions.reviews
    return decisions.gone


def tell(profile):
    """Prints what a profile is, warnings in red where that is shown."""
    import sys

    from ..inspection.verdict_text import WARNING
    from ..reporting import in_red

    for line in "\n".join(filter(None, (profile.describe(), profile.verdict_text))).splitlines():
        print(in_red(line, sys.stdout) if line.startswith(WARNING) else line)


def show(name: str) -> int:
    """Prints what a profile is, its history and its last check."""
    from ..inspection import InspectionProfile
    from ..inspection.history import describe_history
    from ..reporting import print_lines

    profile = InspectionProfile.from_pretrained(name)
    print(f"model: {profile.model}; profile {profile.digest()[:12]}")
    tell(profile)
    print("history:" if profile.history else "no history: an earlier version made it")
    print_lines("\n".join(f"  {line}" for line in describe_history(profile.history)))
    if checked := last_check(Path(name)):
        print(checked.describe(profile.digest()))
    return 0


def undo(args: argparse.Namespace) -> int:
    """Brings back the profile before the last change."""
    from ..inspection import InspectionProfile

    profile = InspectionProfile.go_back(args.undo, shared.name_of(args))
    tell(profile)
    print(f"written: {args.undo}, as it was before; the same command brings back what was there until now")
    return 0


def last_check(folder: Path):
    from ..inspection.golden import last_check

    return last_check(folder)


def check_arguments(args: argparse.Namespace):
    """Refuses a call whose arguments contradict one another, with exit status 2, or that names what is not there."""
    require_possible(args)
    for name in (args.show, args.undo, args.update):
        given_names.require_profile(name)
    given_names.require_model(args.model)
    given_names.require_file("--ignore", args.ignore)
    given_names.require_file("--decisions", args.decisions)
    for name in ("normal", "defects", "confirmed"):
        given_names.require_photos(shared.option(name), getattr(args, name), files_too=True)
    if args.output is not None:
        require_free(args.output, args)


def require_free(output: Path, args: argparse.Namespace):
    """Refuses a folder that holds another profile, which the call does not ask to replace."""
    if (output / PROFILE_FILE).is_file() and output != args.update and not args.overwrite:
        raise ValueError(
            f"{output} holds a profile: name another --output, replace it with --overwrite, or --update it."
        )


def require_possible(args: argparse.Namespace):
    """Refuses arguments that contradict one another, with exit status 2."""
    for name in ("show", "undo") if args.show or args.undo else ():
        others = shared.given(args, *ALONE, *(each for each in ("show", "undo") if each != name))
        if getattr(args, name) and any(others.values()):
            args.parser.error(
                f"--{name} stands alone, beside --by: leave out {shared.option(next(filter(others.get, others)))}"
            )
    if args.show or args.undo:
        return
    if args.scale and not (args.min_area or args.zone):
        args.parser.error("--scale says what areas mean: give --min-area or --zone")
    if args.update:
        for name in shared.given(args, *shared.VIEW_ARGUMENTS, "augment", "part_pattern"):
            args.parser.error(f"{shared.option(name)} is the profile's own: fit a new one")
    else:
        if not args.normal:
            args.parser.error("--normal PATH... is needed: photos of good parts")
        if not args.output:
            args.parser.error("--output FOLDER is needed")
        if args.confirmed or args.drop or args.decisions:
            args.parser.error("--confirmed, --decisions and --drop change an existing profile: name it with --update")
