"""`adaptclip detect`: scores and heatmaps of image files."""

import argparse
from pathlib import Path

from ..model_files import DEFAULT_NAME
from .argument_types import add_model_arguments, positive, probability


def add_command(commands):
    parser = commands.add_parser(
        "detect",
        help="score images and draw heatmaps",
        description="Scores images between 0 (normal) and 1 (anomalous) and draws where the anomaly is.",
        epilog="""examples:
  adaptclip detect part.png                                     zero-shot, no example needed
  adaptclip detect line/ --normal good/                         compare with normal images of the same product
  adaptclip detect 'line/*.png' --normal good/*.png --save-prompt-bank bottle.safetensors
  adaptclip detect line/ --prompt-bank bottle.safetensors       the same without encoding the normal images again
  adaptclip detect line/ --prompt-bank bottle.safetensors --threshold T
                                                                T above what good images that are not among the normal
                                                                ones score: another one for every product

Results: OUTPUT/results.jsonl, a line an image (path, score, label, heatmap, error, ...), and OUTPUT/heatmaps/*.png, all
on one fixed colour scale (blue from 0.15, green 0.25, yellow 0.4, red from 0.6). Started again with the same arguments,
or with more images, it goes on: what has a line is not scored again unless its file has changed.

exit status: 0 all images are scored, 1 some file could not be read (it is named, and has a line with its error) or the
run failed, 2 wrong call, 130 stopped by Ctrl-C""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image files, folders (with all below them), patterns")
    add_model_arguments(parser, DEFAULT_NAME)
    normal = parser.add_mutually_exclusive_group()
    normal.add_argument("--normal", nargs="+", metavar="PATH", help="normal images to compare with; 1 to hundreds")
    normal.add_argument("--prompt-bank", metavar="FILE|ID", help="a saved prompt bank in their place, or its Hub id")
    parser.add_argument("--save-prompt-bank", metavar="FILE", help="keep the encoded normal images (with --normal)")
    parser.add_argument(
        "--threshold", type=probability, help="label images that score at or above it anomalous; between 0 and 1"
    )
    parser.add_argument("--object-name", help="the word for the object in the text prompts (the model's by default)")
    parser.add_argument("--output", type=Path, default=Path("adaptclip-output"), help="folder to write (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="begin anew where OUTPUT holds other results")
    parser.add_argument("--no-heatmaps", action="store_true", help="draw none")
    parser.add_argument("--save-maps", action="store_true", help="keep the raw maps too, as OUTPUT/maps/*.npy")
    parser.add_argument("--batch-size", type=positive, default=1, help="images at a time (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    if args.save_prompt_bank and not args.normal:
        args.parser.error("--save-prompt-bank keeps the images of --normal: give both")
    from ..detection import RESULTS_FILE, detect_files
    from ..engine import AnomalyDetector
    from ..image_files import find_images
    from ..reporting import printable

    paths = find_images(args.paths, leave_out=args.output)
    detector = AnomalyDetector.from_pretrained(args.model, device=args.device)
    prompt_bank, unreadable = None, 0
    if args.normal:
        prompt_bank, unreadable = remember(detector, find_images(args.normal, leave_out=args.output), args.quiet)
        if args.save_prompt_bank:
            prompt_bank.save_pretrained(args.save_prompt_bank)
    elif args.prompt_bank:
        prompt_bank = detector.open_bank(args.prompt_bank)
    summary = detect_files(
        detector,
        paths,
        args.output,
        prompt_bank=prompt_bank,
        object_name=args.object_name,
        threshold=args.threshold,
        batch_size=args.batch_size,
        heatmaps=not args.no_heatmaps,
        maps=args.save_maps,
        overwrite=args.overwrite,
        progress=not args.quiet,
    )
    if not args.quiet:
        print(printable(summary.describe()))
        print(f"written: {args.output / RESULTS_FILE}" + ("" if args.no_heatmaps else f", {args.output / 'heatmaps'}"))
    return 1 if summary.failures or unreadable else 0


def remember(detector, paths: list[Path], quiet: bool):
    """The bank of the normal images that can be read, and how many could not."""
    from ..reporting import say

    unreadable = []

    def pass_over(name: str, error: Exception):
        unreadable.append(name)
        say(f"not among the normal images: {error}")

    bank = detector.remember([str(path) for path in paths], on_error=pass_over, progress=not quiet and len(paths) > 20)
    return bank, len(unreadable)
