"""`adaptclip train`: trains the adapters on a data set by the paper's recipe."""

import argparse
from pathlib import Path

from ..ablations import TABLE_5
from ..model_files import DEFAULT_NAME
from .argument_types import positive

ALL_ROWS = "all"


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "train",
        help="train the adapters on a data set",
        description="Trains the adapters on the test split of anomaly data sets (its defects and masks), compared with "
        "normal images of the train split. CLIP is not changed.",
        epilog="""examples:
  adaptclip train --data mvtec:/data/mvtec_ad --model openai/clip-vit-large-patch14-336 --output adaptclip-mvtec
                                                           the paper's recipe: 15 epochs, batches of 8, Adam at 1e-3
  adaptclip train --data parts/ --output adaptclip-parts   parts/good and parts/bad (and parts/masks), embedded CLIP
  adaptclip train --data parts/ --output adaptclip-parts --resume                            continues where it stopped
  adaptclip train --data visa:/data/VisA --output run --ablation textual --num-train-epochs 5
  adaptclip train --data visa:/data/VisA --eval-data mvtec:/data/mvtec_ad --output table5 --ablation all
  adaptclip train --data parts/ --output adaptclip-parts --push-to-hub --hub-model-id me/adaptclip-parts
  accelerate launch --num_processes 2 -m adaptclip_hf.cli train --data ... --output ...
  accelerate launch --multi_gpu --num_processes 2 -m adaptclip_hf.cli train --use-cpu True --ddp-backend gloo ...
                                                           two processes without a GPU
  torchrun --nproc_per_node 2 -m adaptclip_hf.cli train --data ... --output ...

Every field of transformers.TrainingArguments is an option too (--learning-rate, --num-train-epochs, --bf16,
--gradient-accumulation-steps, --eval-strategy, --report-to, --use-cpu, ...); `adaptclip train --help-training` lists
them with their defaults. Checkpoints in OUTPUT/checkpoint-* hold only the adapters; OUTPUT becomes the complete model,
which other commands take as `--model OUTPUT`. CLIP's features of each image are computed once and kept in the feature
cache, where later runs with the same CLIP and images find them; it may be deleted at any time. Images that cannot be
read are named and left out; the model is still written, and the exit status is 1.""",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--data", nargs="+", required=True, metavar="SPEC", help="LAYOUT:FOLDER or folder; see `adaptclip data --help`"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--model",
        default=DEFAULT_NAME,
        help="folder or Hub id of a CLIP, or of an AdaptCLIP model whose CLIP is used (%(default)s)",
    )
    parser.add_argument("--eval-data", nargs="+", metavar="SPEC", help="evaluate on these after every epoch")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT")
    model = parser.add_argument_group("the model")
    model.add_argument(
        "--keep-adapters", action="store_true", help="start from the model's adapters instead of new ones"
    )
    model.add_argument(
        "--ablation",
        default="full",
        choices=[*TABLE_5, ALL_ROWS],
        metavar="ROW",
        help=f"a row of the paper's table 5: {', '.join(TABLE_5)}; all: trains each row in a folder of its own, "
        "evaluates it on --eval-data and writes one table",
    )
    model.add_argument(
        "--variant",
        type=adapter_and_name,
        action="append",
        metavar="ADAPTER=NAME",
        help="a plug-in's variant of an adapter, such as prompt_query_adapter=signed-residual",
    )
    model.add_argument(
        "--image-size", type=positive, metavar="S", help="input side in pixels (the model's own, or 518)"
    )
    model.add_argument(
        "--feature-layers", type=positive, nargs="+", metavar="N", help="layers whose tokens are compared"
    )
    model.add_argument("--num-dual-path-layers", type=int, metavar="N", help="number of layers with two paths")
    cache = parser.add_argument_group("feature cache")
    cache.add_argument("--feature-cache", type=Path, metavar="DIR", help="its folder (beside the Hub's cache)")
    cache.add_argument(
        "--feature-cache-limit",
        type=float,
        default=50.0,
        metavar="GB",
        help="keep no features if a run's would need more than this; 0 keeps none (%(default)g)",
    )
    parser.add_argument("--help-training", action=TrainingHelp, nargs=0, help="list the training arguments and stop")
    return parser


class TrainingHelp(argparse.Action):
    """Prints the training arguments; `--help` leaves them out, since they take seconds to import."""

    def __call__(self, parser, namespace, values, option_string=None):
        training_parser().print_help()
        parser.exit()


def training_parser():
    from transformers import HfArgumentParser

    from ..training import AdaptCLIPTrainingArguments

    return HfArgumentParser(
        AdaptCLIPTrainingArguments,
        prog="adaptclip train",
        usage="adaptclip train --data SPEC --output DIR [training arguments]",
        allow_abbrev=False,
        add_help=False,
    )


def adapter_and_name(text: str) -> tuple[str, str]:
    adapter, equals, name = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected ADAPTER=NAME, such as visual_adapter=mine, got {text}")
    return adapter, name


def run(args: argparse.Namespace) -> int:
    if args.ablation == ALL_ROWS and not args.eval_data:
        args.parser.error("--ablation all evaluates every row: name data sets with --eval-data")
    training_arguments = parse_training_arguments(args, args.output)  # before seconds of imports

    from accelerate import PartialState

    if args.ablation == ALL_ROWS:
        from ..training.ablation_table import train_all_rows

        def train_row(row: str, folder: Path, resume: bool):
            return call_train(args, parse_training_arguments(args, folder), row, resume)

        unreadable = train_all_rows(train_row, args.eval_data, args.output, args.resume)
    else:
        unreadable = call_train(args, training_arguments, args.ablation, args.resume, args.eval_data or ()).unreadable
    # a process that ends while the group is open may be aborted, and the launcher then calls the run failed
    PartialState().destroy_process_group()
    return 1 if unreadable else 0


def parse_training_arguments(args: argparse.Namespace, output: Path):
    """The training arguments of the command line, with an output folder."""
    more = [*args.more, "--output_dir", str(output)]
    each_epoch = args.eval_data and args.ablation != ALL_ROWS
    if each_epoch and not any(each.replace("_", "-").startswith("--eval-strategy") for each in more):
        more += ["--eval_strategy", "epoch"]
    training_arguments, unknown = training_parser().parse_args_into_dataclasses(more, return_remaining_strings=True)
    if unknown:
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return training_arguments


def call_train(args: argparse.Namespace, training_arguments, ablation: str, resume: bool, eval_data=()):
    """Trains one row as the command line says."""
    from ..training.train import train

    names = ("image_size", "feature_layers", "num_dual_path_layers")
    config = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.variant:
        config["adapter_variants"] = dict(args.variant)
    return train(
        args.model,
        args.data,
        training_arguments,
        eval_data=eval_data,
        ablation=ablation,
        keep_adapters=args.keep_adapters,
        cache_folder=args.feature_cache,
        cache_limit=args.feature_cache_limit,
        resume=resume,
        **config,
    )
