"""The command line: `adaptclip detect` and `adaptclip convert`."""

import argparse
import sys
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError

from .pretrained import DEFAULT_NAME


def main(arguments: list[str] | None = None) -> int:
    """Runs one command. Exit status 0, 1 when something failed, 2 for a wrong call."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 1
    except StrictDataclassError as error:
        print(f"adaptclip: {error.__cause__ or error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"adaptclip: {error}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adaptclip",
        description="Finds anomalies in images of things never seen, from no example or a few normal images.",
        epilog="`adaptclip COMMAND --help` explains a command with examples.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_detect(commands)
    add_convert(commands)
    return parser


def add_detect(commands):
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
    normal.add_argument("--prompt-bank", metavar="FILE", help="a saved prompt bank in their place")
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
    parser.set_defaults(run=run_detect, parser=parser)


def run_detect(args: argparse.Namespace) -> int:
    if args.save_prompt_bank and not args.normal:
        args.parser.error("--save-prompt-bank keeps the images of --normal: give both")
    from .detection import RESULTS_FILE, detect_files
    from .image_files import find_images

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

    from .pretrained import resolve_model

    logging.disable_progress_bar()
    settings = {"object_name": object_name} if object_name else {}
    return pipeline("anomaly-detection", model=resolve_model(model), device=device, **settings)


def add_convert(commands):
    parser = commands.add_parser(
        "convert",
        help="make a model folder of a released checkpoint and a CLIP",
        description="Converts the authors' adapters.pth and the CLIP it was trained on to a complete model folder: "
        "safetensors, config, processor and tokenizer.",
        epilog="""examples:
  adaptclip convert --checkpoint adapters.pth --clip openai/clip-vit-large-patch14-336 --output adaptclip-vitl
  adaptclip convert --checkpoint adapters.pth --clip ViT-B-16-plus-240.pt --tokenizer openai/clip-vit-base-patch16 \\
      --image-size 512 --output adaptclip-vitb

Every tensor must find its place: one that is missing, superfluous or misshapen is named. Files are opened without
running anything that is in them.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="the released adapters.pth")
    parser.add_argument(
        "--clip", required=True, help="HF folder, Hub id, or a .pt/.safetensors file with OpenAI's or open_clip's names"
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to write")
    parser.add_argument("--tokenizer", help="folder or Hub id; by default the one beside the CLIP")
    parser.add_argument(
        "--feature-layers",
        type=int,
        nargs="+",
        metavar="N",
        help="chosen layers (6 12 18 24 of 24, in that proportion)",
    )
    parser.add_argument(
        "--num-dual-path-layers", type=int, metavar="N", help="layers with two paths (19 of 24, 9 of 12)"
    )
    parser.add_argument("--image-size", type=int, metavar="S", help="input side (518, or the nearest that fits)")
    parser.add_argument("--no-prompt-query-context", action="store_true", help="trained without the query's context")
    parser.add_argument("--object-name", help='the word for the object in the text prompts ("object")')
    parser.set_defaults(run=run_convert)


def run_convert(args: argparse.Namespace) -> int:
    from .conversion import convert

    names = ("feature_layers", "num_dual_path_layers", "image_size", "object_name")
    settings = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.no_prompt_query_context:
        settings["prompt_query_context"] = False
    model = convert(args.checkpoint, args.clip, args.output, args.tokenizer, **settings)
    config = model.config
    print(
        f"written: {args.output} (image size {config.image_size}, feature layers {config.feature_layers}, "
        f"{config.num_dual_path_layers} dual-path layers)"
    )
    return 0


def probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text}")
    return value


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
