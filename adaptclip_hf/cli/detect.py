"""`adaptclip detect`: scores and heatmaps of image files."""

import argparse
from pathlib import Path

from ..pretrained import DEFAULT_NAME
from .argument_types import positive, probability


def add_command(commands):
    parser = commands.add_parser(
        "detect",
        help="score images and draw heatmaps",
        description="Scores images between 0 (normal) and 1 (anomalous) and draws where the anomaly is.",
        epilog="""examples:
  adaptclip detect part.png                                     zero-shot, no example needed
  adaptclip detect line/ --normal good/ --threshold 0.5         compare with normal images of the same product
  adaptclip detect 'line/*.png' --normal good/*.png --save-prompt-bank bottle.safetensors
  adaptclip detect line/ --prompt-bank bottle.safetensors       the same without encoding the normal images again

Results: OUTPUT/results.jsonl, a line an image (path, score, label, heatmap), and OUTPUT/heatmaps/*.png, all on one
fixed colour scale (blue from 0.15, green 0.25, yellow 0.4, red from 0.6). A file that cannot be read is reported and
passed over; the exit status is then 1.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="image files, folders (with all below them), patterns")
    parser.add_argument(
        "--model", default=DEFAULT_NAME, help="folder, Hub id or %(default)s, the small embedded one (the default)"
    )
    normal = parser.add_mutually_exclusive_group()
    normal.add_argument("--normal", nargs="+", metavar="PATH", help="normal images to compare with; 1 to hundreds")
    normal.add_argument("--prompt-bank", metavar="FILE|ID", help="a saved prompt bank in their place, or its Hub id")
    parser.add_argument("--save-prompt-bank", metavar="FILE", help="keep the encoded normal images (with --normal)")
    parser.add_argument(
        "--threshold", type=probability, help="label images that score at or above it anomalous; between 0 and 1"
    )
    parser.add_argument("--object-name", help="the word for the object in the text prompts (the model's by default)")
    parser.add_argument("--output", type=Path, default=Path("adaptclip-output"), help="folder to write (%(default)s)")
    parser.add_argument("--no-heatmaps", action="store_true", help="write scores alone")
    parser.add_argument("--batch-size", type=positive, default=1, help="images at a time (%(default)s)")
    parser.add_argument("--device", help="such as cpu or cuda:0; by default a GPU where there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    if args.save_prompt_bank and not args.normal:
        args.parser.error("--save-prompt-bank keeps the images of --normal: give both")
    from ..detection import RESULTS_FILE, detect_files
    from ..image_files import find_images

    paths = find_images(args.paths)
    pipeline = load_pipeline(args.model, args.device, args.object_name)
    parameters = {"threshold": args.threshold}
    if args.normal:
        parameters["prompt_bank"] = pipeline.encode_prompts([str(path) for path in find_images(args.normal)])
        if args.save_prompt_bank:
            parameters["prompt_bank"].save_pretrained(args.save_prompt_bank)
    elif args.prompt_bank:
        parameters["prompt_bank"] = pipeline.open_prompt_bank(args.prompt_bank)
    summary = detect_files(
        pipeline,
        paths,
        args.output,
        batch_size=args.batch_size,
        heatmaps=not args.no_heatmaps,
        progress=not args.quiet,
        **parameters,
    )
    if not args.quiet:
        print(summary.describe())
        print(f"written: {args.output / RESULTS_FILE}" + ("" if args.no_heatmaps else f", {args.output / 'heatmaps'}"))
    return 1 if summary.failures else 0


def load_pipeline(model: str, device: str | None, object_name: str | None):
    """The pipeline of a model by its name, quiet about loading."""
    from transformers import pipeline
    from transformers.utils import logging

    from ..pretrained import load_model_and_processor

    logging.disable_progress_bar()
    settings = {"object_name": object_name} if object_name else {}
    loaded, processor = load_model_and_processor(model)
    return pipeline("anomaly-detection", model=loaded, processor=processor, device=device, **settings)
