"""`adaptclip detect`: scores and heatmaps of image files."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..model_files import is_exported
from ..runs.formats import FORMATS, LABEL_STUDIO
from . import argument_types as shared
from . import given_names
from .delivery_arguments import add_delivery_arguments, add_live, check_delivery, targets_of
from .dtype_choice import DTYPES, tell_dtype, why_of_export
from .light import is_light as is_light  # asked before `run`
from .light import light_scorer

LOCAL, RAY = "local", "ray"


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "detect",
        help="score images, decide, and draw heatmaps",
        description="Scores images between 0 (normal) and 1 (anomalous) and draws where the anomaly is. With a profile "
        "(`adaptclip fit`) it decides as well: label, p-value and regions.",
        epilog="""examples:
  adaptclip detect line/ --profile bottle/                      yes or no, at the false-alarm rate of the profile
  adaptclip detect line/ --profile bottle/ --watch              the same for every image that appears there
  adaptclip detect line/ --profile bottle/ --watch --on-anomalous 'eject.py {path}' --live 8100
  adaptclip detect line/ --profile bottle/ --format coco        with COCO's annotations of the regions
  adaptclip detect part.png                                     zero-shot, no example needed
  adaptclip detect line/ --normal good/                         compare with normal images of the same product
  adaptclip detect 'line/*.png' --normal good/*.png --save-prompt-bank bottle.safetensors
  adaptclip detect line/ --prompt-bank bottle.safetensors       the same without encoding the normal images again
  adaptclip detect --engine ray --input s3://line/today/ --output s3://line/results/ --profile bottle/

A score by itself decides nothing: what good parts score is different for every product. `adaptclip fit` finds a
threshold from photos of good parts, at a false-alarm rate that you choose.

Results: OUTPUT/results.jsonl, a line an image (path, score, p_value, label, reason, regions, margin, ...), and
OUTPUT/heatmaps/*.png: with a profile colours begin at what the maps of good photos reach, otherwise they are one fixed
scale (blue from 0.15, green 0.25, yellow 0.4, red from 0.6); `adaptclip report OUTPUT` makes a page of them. Started
again with the same arguments, or with more images, it goes on: what has a line is not scored again unless its file has
changed. With a profile OUTPUT/drift.jsonl notes when photos that are called good no longer look like the profile's own.
A photo that is too dark, empty, blurred or of another product is labelled "not inspectable", neither normal nor
anomalous, and named at the end. With --engine ray: OUTPUT/part-*.parquet, without heatmaps and drift.

A profile that was fitted with --part-pattern, or from a list with a column `part`, decides part by part: rows have
`part`, and `part_label`, which is anomalous if one of the part's photos is. It is written when all images are scored;
with --watch as soon as one photo is anomalous or as many have come as a part usually has.

exit status: 0 all images are scored, 1 some file could not be read (it is named, and has a line with its error), some
decision is not delivered or the run failed, 2 wrong call, 130 stopped by Ctrl-C and 143 by SIGTERM (with --watch 0)""",
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="image files, folders (with all below them), patterns")
    shared.add_model_arguments(parser, None, shared.PROFILES_MODEL, chooses_dtype=True)
    normal = parser.add_mutually_exclusive_group()
    normal.add_argument("--profile", metavar="FOLDER|ID", help="decide by a profile that `adaptclip fit` made")
    normal.add_argument("--normal", nargs="+", metavar="PATH", help="normal images to compare with; 1 to hundreds")
    normal.add_argument("--prompt-bank", metavar="FILE|ID", help="a saved prompt bank in their place, or its Hub id")
    parser.add_argument("--save-prompt-bank", metavar="FILE", help="keep the encoded normal images (with --normal)")
    parser.add_argument(
        "--threshold",
        type=shared.probability,
        help="without a profile: label images that score above it anomalous; the right one is another for every "
        "product, and `adaptclip fit` finds it",
    )
    parser.add_argument(
        "--false-discovery-rate",
        type=shared.rate,
        metavar="RATE",
        help="with a profile and many images: set the labels so that at most this share of the images that are called "
        "anomalous are good (Benjamini and Hochberg)",
    )
    parser.add_argument(
        "--watch", action="store_true", help="watch one folder and score images as they appear (--engine local)"
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=(),
        help="also write the results in these formats: csv has a line an image, regions a line a region (regions.csv)",
    )
    parser.add_argument(
        "--label-studio-prefix",
        metavar="PREFIX",
        help="with --format label-studio: where Label Studio finds the images, such as /data/local-files/?d= or "
        "https://HOST/photos/; their paths follow it, percent-encoded",
    )
    parser.add_argument(
        "--label-studio-root",
        metavar="FOLDER",
        help="the folder that PREFIX stands for; the current one by default",
    )
    shared.add_object_name(parser)
    shared.add_augment(parser)
    shared.add_view_arguments(parser)
    shared.add_size_limit(parser)
    parser.add_argument(
        "--output", default="adaptclip-output", help="folder to write (%(default)s); with --engine ray any address"
    )
    parser.add_argument("--overwrite", action="store_true", help="start again if OUTPUT holds other results")
    parser.add_argument("--no-heatmaps", action="store_true", help="draw no heatmaps")
    parser.add_argument(
        "--save-maps", action="store_true", help="keep the raw maps: OUTPUT/maps/*.npy, or in the parts"
    )
    parser.add_argument("--batch-size", type=shared.positive, default=1, help="images at a time (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    add_live(parser)
    add_delivery_arguments(parser)
    bulk = parser.add_argument_group("millions of images (docs/scale.md)")
    bulk.add_argument(
        "--engine",
        choices=(LOCAL, RAY),
        default=LOCAL,
        help="ray: score with many processes, on the cluster that RAY_ADDRESS names or on this machine, into "
        "OUTPUT/part-*.parquet; without Ray (`pip install 'adaptclip-hf[ray]'`) in this process, the same rows",
    )
    bulk.add_argument(
        "--input",
        nargs="+",
        default=[],
        metavar="ADDRESS",
        help="folders, images and lists of them (.txt, .csv or .parquet with a column `path`), here or at any address "
        "that fsspec knows, such as s3://line/today/",
    )
    bulk.add_argument("--actors", type=shared.positive, help="processes that score (one a GPU, or one a core)")
    return parser


def run(args: argparse.Namespace) -> int:
    shared.set_size_limit(args)
    from ..delivery.couriers import Delivery
    from ..image_files import ImageFiles
    from ..passed_over import PassedOver
    from ..reporting import print_line, print_nothing, printable
    from ..runs.executor import Here
    from ..runs.run import Run
    from ..runs.sources import Sources
    from ..runs.spec import RunSpec
    from ..runs.store_lines import LineStore

    targets = targets_of(args)
    output, report, passed_over = Path(args.output), print_nothing if args.quiet else print_line, PassedOver()
    if args.engine == RAY:
        sources = Sources(addresses=(*args.paths, *args.input), passed_over=passed_over)
    else:
        files = ImageFiles([] if args.watch else args.paths, output, passed_over)
        sources = Sources(files, tuple(args.input), output, passed_over)
    detector, reference, unreadable = what_to_score_with(args, passed_over)
    model = shared.model_name(args, reference if args.profile else None)
    spec = RunSpec(
        str(Path(model).absolute()) if Path(model).is_dir() else model,
        reference,
        args.device,
        None if is_exported(model) else detector.dtype,
        shared.trusts_code(args),
        args.batch_size,
        not args.no_heatmaps and args.engine == LOCAL,
        args.save_maps,
        args.false_discovery_rate,
        args.format,
        label_studio_addresses(args),
    )
    delivery = Delivery(targets, report)
    if args.engine == RAY:
        executor, store = parts(args, spec, detector, report)
        run = Run(executor, store, report, not args.quiet)
    else:
        lines = LineStore(output, spec, report)
        run = Run(Here(spec, detector, report), lines, report, not args.quiet, partial(delivery.of, lines))
    with shown_live(args, delivery):
        if args.watch:
            summary = run.watch(Path(args.paths[0]), args.overwrite, passed_over)
        else:
            summary = run.run(sources, args.overwrite)
    if not args.quiet:
        # where the labels of all images are set together, the threshold decides none of them
        place_of = reference.place_of
        if args.false_discovery_rate:
            place_of = partial(reference.calibration.place_of, what=reference.calibrates)
        print("\n".join(filter(None, (summary.describe(place_of), passed_over.describe()))))
        print(f"written: {printable(run.store.written)}")
    return 1 if summary.unreadable or unreadable or delivery.undelivered else 0


@contextmanager
def shown_live(args: argparse.Namespace, delivery) -> Iterator[None]:
    """The page of `--live` is served meanwhile, if it is asked for."""
    if args.live is None:
        yield
        return
    from ..report.live import LivePage, live
    from ..reporting import print_line

    host, port = args.live
    with live(host, port, LivePage(Path(args.output), delivery.waiting)) as address:
        print_line(f"live at {address}")
        yield


def label_studio_addresses(args: argparse.Namespace):
    """Where Label Studio finds the images; `None` where no prefix is given."""
    from ..runs.label_studio import ImageAddresses

    if args.label_studio_prefix is None:
        return None
    return ImageAddresses(args.label_studio_prefix, str(Path(args.label_studio_root or ".").absolute()))


def parts(args: argparse.Namespace, spec, detector, report):
    """Who scores into Parquet parts, and their folder."""
    from importlib.util import find_spec

    from ..runs.executor import Here
    from ..runs.store_parts import PartStore

    store = PartStore(args.output, spec.maps)
    if find_spec("ray") is not None:
        from ..ray import OnRay

        return OnRay(spec, detector, args.output, args.actors), store
    report("Ray is not installed (`pip install 'adaptclip-hf[ray]'`): working in this process, into the same rows")
    return Here(spec, detector, report), store


def what_to_score_with(args: argparse.Namespace, passed_over):
    """The detector, the reference that the arguments name, and how many normal images cannot be read."""
    from ..engine import PlainReference, View
    from ..image_files import find_images

    profile = read_profile(args.profile, args.light) if args.profile else None
    if args.light:
        detector = light_scorer(shared.model_name(args, profile), args.device)
        tell_dtype(args, detector.dtype, why_of_export(profile, detector.dtype))
    else:
        earlier = None if args.overwrite else earlier_dtype(args)
        detector = shared.load_detector(args, profile, earlier_dtype=earlier)
    if profile is not None:
        profile.require_match(detector)
        return detector, profile, 0
    prompt_bank, unreadable, view = None, 0, shared.view_of(args) or View()
    if args.normal:
        normal = find_images(args.normal, Path(args.output), passed_over)
        prompt_bank, unreadable = remember(detector, normal, view, args.quiet, **shared.given(args, "augment"))
        if args.save_prompt_bank:
            prompt_bank.save_pretrained(args.save_prompt_bank)
    elif args.prompt_bank:
        prompt_bank = read_bank(args.prompt_bank, args.light)
        detector.require_match(prompt_bank, view)
    return detector, PlainReference(prompt_bank, args.object_name, view, args.threshold), unreadable


def read_profile(folder: str, light: bool):
    """The profile, to decide by; without torch if it is read so."""
    if light:
        from ..inspection.deciding import DecidingProfile

        return DecidingProfile.from_pretrained(folder)
    from ..inspection import InspectionProfile

    return InspectionProfile.from_pretrained(folder)


def read_bank(path: str, light: bool):
    """The prompt bank; without torch if it is read so."""
    if light:
        from ..runtimes.numpy_bank import NumpyBank

        return NumpyBank.from_pretrained(path)
    from ..detector import read_bank

    return read_bank(path)


def earlier_dtype(args: argparse.Namespace) -> str | None:
    """The dtype of the run whose results are in the output folder; `None` without any."""
    from ..resume import parsed_settings
    from ..runs.folder_content import SETTINGS_FILE
    from ..runs.store import ADVICE
    from ..runs.store_parts import PartStore

    file, settings = Path(args.output, SETTINGS_FILE), None
    if args.engine == RAY:
        settings = PartStore(args.output, args.save_maps).read_settings()
    elif file.is_file():
        settings = parsed_settings(file.read_bytes(), str(file), ADVICE)
    dtype = (settings or {}).get("dtype")
    return dtype if dtype in DTYPES else None


def check_arguments(args: argparse.Namespace):
    """Refuses a call whose arguments contradict one another, with exit status 2, or that names what is not there."""
    require_possible(args)
    given_names.require_profile(args.profile)
    given_names.require_model(args.model)
    given_names.require_file("--ignore", args.ignore)
    if args.watch and not Path(args.paths[0]).is_dir():
        raise FileNotFoundError(f"No folder {args.paths[0]} to watch.{given_names.near(args.paths[0])}")
    for option, paths in (("", args.paths), ("--input", args.input)):
        given_names.require_photos(option, paths)
    given_names.require_photos("--normal", args.normal or (), files_too=True)


def require_possible(args: argparse.Namespace):
    """Refuses arguments that contradict one another, with exit status 2."""
    if not args.paths + args.input:
        args.parser.error("name the images: PATH, or --input")
    if args.engine == RAY and args.watch:
        args.parser.error(f"--watch belongs to --engine {LOCAL}; {RAY} writes Parquet")
    if args.engine == LOCAL and args.actors:
        args.parser.error(f"--actors belongs to --engine {RAY}")
    if args.engine == RAY and args.megapixels:
        args.parser.error(f"--megapixels belongs to --engine {LOCAL}")
    if args.save_prompt_bank and not args.normal:
        args.parser.error("--save-prompt-bank keeps the images of --normal: give both")
    if args.augment and not args.normal:
        args.parser.error("--augment makes copies of the images of --normal: give both")
    if args.label_studio_prefix is not None and LABEL_STUDIO not in args.format:
        args.parser.error(f"--label-studio-prefix belongs to --format {LABEL_STUDIO}")
    if args.label_studio_root is not None and args.label_studio_prefix is None:
        args.parser.error("--label-studio-root is the folder of a --label-studio-prefix: give both")
    for name in shared.given(args, "threshold", "object_name", *shared.VIEW_ARGUMENTS) if args.profile else ():
        args.parser.error(f"the profile holds what {shared.option(name)} says: leave it out, or fit another profile")
    if args.false_discovery_rate and not args.profile:
        args.parser.error("--false-discovery-rate takes a --profile: without it there are no p-values")
    if args.false_discovery_rate and args.watch:
        args.parser.error("--false-discovery-rate looks at all images at once, and --watch never has them all")
    if args.watch and (len(args.paths) != 1 or args.input):
        args.parser.error("--watch takes one folder")
    check_delivery(args)


def remember(detector, paths: list[Path], view, quiet: bool, **augment: str):
    """The bank of the normal images that can be read, and how many could not."""
    from ..reporting import print_line, print_nothing

    unreadable = []

    def pass_over(name: str, error: Exception):
        unreadable.append(name)
        print_line(f"not among the normal images: {error}")

    progress, report = not quiet and len(paths) > 20, print_nothing if quiet else print_line
    images = [str(path) for path in paths]
    bank = detector.remember(images, on_error=pass_over, progress=progress, view=view, report=report, **augment)
    return bank, len(unreadable)
