"""`adaptclip evaluate`: the paper's tables for a model and data sets."""

import argparse
from pathlib import Path

from ..ablations import TABLE_5
from ..model_files import DEFAULT_NAME, is_exported
from .argument_types import add_model_arguments, load_detector, positive, whole

SHOTS, SEEDS = [0, 1, 2, 4], [10, 20, 30]


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "evaluate",
        help="measure a model on data sets as the paper does",
        description="Scores the test images of data sets, zero-shot and against drawn normal images, and writes the "
        "paper's tables: figures for each category and their mean, with mean and standard deviation over the seeds, "
        "beside the published figures.",
        epilog="""examples:
  adaptclip evaluate --data mvtec:/data/mvtec_ad --output results/mvtec
  adaptclip evaluate --model adaptclip-vitl --data visa:/data/VisA btad:/data/BTAD --output results/vitl
  adaptclip evaluate --data parts/ --shots 0 4 --seeds 10 --output results/parts
  adaptclip evaluate --data parts/ --training-free --output results/clip            to see what the adapters add
  adaptclip evaluate --model openai/clip-vit-base-patch16 --data parts/ --output results/base    any CLIP, untrained
  adaptclip evaluate --data mvtec:/data/mvtec_ad --maps patchcore/maps --output results/patchcore    another program
  torchrun --nproc_per_node 2 -m adaptclip_hf.cli evaluate --data mvtec:/data/mvtec_ad --output results/mvtec

The command writes to OUTPUT: results.json (everything: figures, versions, fingerprint, drawn prompts), results.csv,
results.md (tables ready to paste), scores.csv (a row for each image and setting), prompts.json, model-index.yml (for a
model card), plots/DATA_SET/CATEGORY_curves.png and plots/DATA_SET/CATEGORY_examples.jpg. If it is stopped, the same
call continues; a call with more data sets, shots or seeds adds them. Every test image is encoded once for all shots and
seeds. Files that cannot be read are named, left out and listed in the results; the exit status is then 1.

--maps: the map of DATA/bottle/test/broken/000.png is DIR/bottle/test/broken/000.npy (or .npz, .tiff, .png). An image's
score is its map's maximum, or a row of DIR/scores.csv (columns image, score). --shots and --seeds, one of each, say
which setting the maps belong to (0 shots by default).

`adaptclip data --help` explains the data sets.""",
    )
    add_model_arguments(parser, DEFAULT_NAME)
    add_evaluation_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write or to continue")
    parser.add_argument(
        "--training-free",
        action="store_true",
        help="the model's CLIP without its adapters: static prompts, and alignment with the normal images",
    )
    parser.add_argument(
        "--maps",
        type=Path,
        metavar="DIR",
        help="evaluate the maps in this folder (.npy, .npz, .tiff, .png), of any program, instead of a model",
    )
    parser.add_argument("--save-maps", action="store_true", help="write every map to OUTPUT/maps (.npy, float32)")
    parser.add_argument(
        "--map-size",
        type=positive,
        metavar="S",
        help="compare maps and masks at this side in pixels; by default at the maps' own size (Real-IAD: 256)",
    )
    parser.add_argument("--overwrite", action="store_true", help="start again if OUTPUT holds another evaluation")
    return parser


def add_evaluation_arguments(parser: argparse.ArgumentParser):
    """What is evaluated on; the same for `evaluate` and `verify`."""
    parser.add_argument("--data", nargs="+", required=True, metavar="SPEC", help="one or more LAYOUT:FOLDER or folders")
    parser.add_argument("--shots", type=whole, nargs="+", metavar="K", help="numbers of normal images (0 1 2 4)")
    parser.add_argument("--seeds", type=whole, nargs="+", metavar="N", help="seeds that draw them (10 20 30)")
    parser.add_argument("--batch-size", type=positive, default=4, metavar="B", help="images at a time (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="show no progress bar and no tables")


def run(args: argparse.Namespace) -> int:
    from accelerate import PartialState

    from ..evaluation.evaluate import evaluate
    from ..evaluation.results import as_markdown
    from ..evaluation.saved_maps import SavedMaps
    from ..loading import choose_device

    if args.maps is not None and (args.training_free or args.model != DEFAULT_NAME):
        args.parser.error("--maps are evaluated without a model: leave out --model and --training-free")
    if args.training_free and is_exported(args.model):
        args.parser.error(f"--training-free: the export {args.model} contains the adapters; name the model it is from")
    device = choose_device(args.device)
    state = PartialState(cpu=device.type == "cpu")
    if args.maps is not None:
        scored, name, shots, seeds = SavedMaps(args.maps), args.maps.name, [0], SEEDS[:1]
    else:
        scored = load_detector(args, device=state.device, **(TABLE_5["clip"] if args.training_free else {}))
        name, shots, seeds = f"{args.model}, training-free" if args.training_free else args.model, SHOTS, SEEDS
    results = evaluate(
        scored,
        args.data,
        args.output,
        args.shots or shots,
        args.seeds or seeds,
        args.batch_size,
        progress=not args.quiet,
        model_name=name,
        map_size=args.map_size,
        keep_maps=args.save_maps,
        overwrite=args.overwrite,
    )
    if state.is_main_process and not args.quiet:
        print(as_markdown(results))
        print(f"written: {args.output / 'results.json'}, results.csv, results.md, scores.csv, {args.output / 'plots'}")
    failed = bool(results["failures"])
    # a process that ends while the group is open may be aborted, and the launcher then calls the run failed
    state.destroy_process_group()
    return int(failed)
