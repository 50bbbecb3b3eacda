"""Trains adaptclip-tiny from nothing: procedural images, a small CLIP, the adapters, the finished folder.

    python examples/adaptclip_tiny/train.py --output adaptclip_hf/models/adaptclip-tiny

Four stages (rendering, CLIP, adapters, packaging), seeded; each is skipped when its result lies in the work folder, and
the CLIP stage goes on from its last checkpoint. No real image is seen. A run of the defaults takes about two hours on
two CPU cores.
"""

import argparse
from pathlib import Path

from adapter_training import package, train_adapters
from clip_training import train_clip
from rendering import render


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("recipe-output"), help="rendered images and checkpoints")
    parser.add_argument("--output", type=Path, required=True, help="the finished model folder")
    parser.add_argument("--categories", type=int, default=4000, help="procedural categories for the CLIP")
    parser.add_argument(
        "--clip-steps", type=int, default=5000, help="steps of about 4,096 patches to train the CLIP for"
    )
    parser.add_argument("--base-categories", type=int, default=640, help="further categories for the adapters")
    parser.add_argument("--epochs", type=int, default=3, help="passes of the adapters over them")
    parser.add_argument("--image-size", type=int, default=336, help="input side of the finished model")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    train_clip(args.work, render(args.work, args.categories), args.clip_steps)
    train_adapters(args.work, args.base_categories, args.epochs, args.image_size)
    package(args.work, args.output)


if __name__ == "__main__":
    main()
