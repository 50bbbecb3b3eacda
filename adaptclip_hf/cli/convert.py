"""`adaptclip convert`: makes a model folder from a released checkpoint and a CLIP."""

import argparse
from pathlib import Path

from ..files import write_whole
from ..model_files import CARD
from .argument_types import given

# the name in a checkpoint's path, and the name in the paper
TRAINED_ON = {"mvtec": "MVTec", "visa": "VisA"}


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "convert",
        help="make a model folder from a released checkpoint and a CLIP",
        description="Converts the authors' adapters.pth and the CLIP that it was trained on into a complete model "
        "folder: safetensors, config, processor and tokenizer.",
        epilog="""examples:
  adaptclip convert --checkpoint csgaobb/AdaptCLIP --trained-on mvtec --output adaptclip-vitl      # fetches both
  adaptclip convert --checkpoint adapters.pth --clip openai/clip-vit-large-patch14-336 --output adaptclip-vitl
  adaptclip convert --checkpoint adapters.pth --clip ViT-B-16-plus-240.pt --tokenizer openai/clip-vit-base-patch16 \\
      --image-size 512 --output adaptclip-vitb

Every tensor must fit: one that is missing, unexpected or of the wrong shape is named. Files are opened without running
any code that they contain.""",
    )
    parser.add_argument(
        "--checkpoint", required=True, help="the released adapters.pth, or the folder or Hub id that holds it"
    )
    parser.add_argument(
        "--trained-on",
        choices=TRAINED_ON,
        help="which of several checkpoints to use; also writes the released model's card, with the paper's figures",
    )
    parser.add_argument(
        "--clip",
        help="HF folder, Hub id, or a .pt/.safetensors file with OpenAI's or open_clip's names; by default OpenAI's "
        "ViT-L/14@336, on which the released checkpoints were trained",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder to write")
    parser.add_argument("--tokenizer", help="folder or Hub id; by default the CLIP's own")
    parser.add_argument(
        "--feature-layers",
        type=int,
        nargs="+",
        metavar="N",
        help="layers whose tokens are compared (6 12 18 24 of 24, or in that proportion)",
    )
    parser.add_argument(
        "--num-dual-path-layers", type=int, metavar="N", help="number of layers with two paths (19 of 24, 9 of 12)"
    )
    parser.add_argument("--image-size", type=int, metavar="S", help="input side (518, or the nearest that fits)")
    parser.add_argument(
        "--no-prompt-query-context", action="store_true", help="for adapters trained without the query's context"
    )
    parser.add_argument("--object-name", help='the word for the object in the text prompts ("object")')
    return parser


def run(args: argparse.Namespace) -> int:
    from ..conversion import RELEASED_CLIP, convert
    from ..hub.cards import released_card
    from ..hub.released import released_checkpoint

    settings = given(args, "feature_layers", "num_dual_path_layers", "image_size", "object_name")
    if args.no_prompt_query_context:
        settings["prompt_query_context"] = False
    file = released_checkpoint(args.checkpoint, args.trained_on)
    model = convert(file, args.clip or RELEASED_CLIP, args.output, args.tokenizer, **settings)
    config = model.config
    if args.trained_on:
        card = released_card(TRAINED_ON[args.trained_on], args.output.name, config)
        write_whole(args.output / CARD, card.encode())
    print(
        f"written: {args.output} (image size {config.image_size}, feature layers {config.feature_layers}, "
        f"{config.num_dual_path_layers} dual-path layers)"
    )
    return 0
