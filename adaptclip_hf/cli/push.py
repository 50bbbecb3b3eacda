"""`adaptclip push`: a model folder to the Hub."""

import argparse
from pathlib import Path


def add_command(commands):
    parser = commands.add_parser(
        "push",
        help="publish a model folder on the Hub",
        description="Pushes weights, configuration, processor, tokenizer and card of a model folder, in one commit.",
        epilog="""examples:
  adaptclip push adaptclip-parts me/adaptclip-parts --dry-run      # what would go, and its size
  adaptclip push adaptclip-parts me/adaptclip-parts --private
  adaptclip push adaptclip-parts me/adaptclip-parts --revision v2

Checkpoints, logs and other files of the folder stay where they are. A push that breaks off publishes nothing; push
again. Log in with `hf auth login` or set HF_TOKEN. README.md in the folder is the model's card.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="complete model folder")
    parser.add_argument("repo_id", metavar="REPO_ID", help="OWNER/NAME on the Hub; made if it is not there")
    parser.add_argument("--private", action="store_true", help="if the repository is made now, make it private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to; made if it is not there")
    parser.add_argument("--dry-run", action="store_true", help="list what would go, and its size; no network")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..publishing import CARD, published_files, push_folder

    files = published_files(args.folder)
    for file in files:
        print(f"{file.stat().st_size / 1e6:10.2f} MB  {file.name}")
    print(f"{sum(file.stat().st_size for file in files) / 1e6:10.2f} MB  in all")
    if CARD not in {file.name for file in files}:
        print(f"! {args.folder} has no {CARD}: the model goes without a card")
    if not args.dry_run:
        print(f"pushed: {push_folder(args.folder, args.repo_id, args.private, args.revision)}")
    return 0
