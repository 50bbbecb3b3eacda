"""`adaptclip push`: a model folder, a profile or a prompt bank to the Hub."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from ..model_files import ADAPTERS, MODEL_FOLDERS, PROFILE_FILE
from .argument_types import given, option

OF_A_MODEL = ("results", "flavour", "clip", "clip_revision", "endpoint_handler")  # arguments


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "push",
        help="publish a model folder, a profile or a prompt bank on the Hub",
        description="Pushes weights, configuration, processor, tokenizer and card of a model folder, in one commit; or "
        "an inspection profile or a prompt bank and its card.",
        epilog="""examples:
  adaptclip push adaptclip-parts me/adaptclip-parts --dry-run      # what would be pushed, and its size
  adaptclip push adaptclip-parts me/adaptclip-parts --private --results results/results.json
  adaptclip push adaptclip-parts me/adaptclip-parts --revision v2
  adaptclip push adaptclip-parts me/parts-adapters --flavour adapters --clip openai/clip-vit-large-patch14-336
  adaptclip push bottle me/bottle-profile --private                # a profile of `adaptclip fit`, without its photos
  adaptclip push bottle.safetensors me/bottle-bank --model me/adaptclip-parts

Checkpoints, logs and other files of the folder are not pushed. A folder without a card (README.md), or turned into
another kind, gets a new card from what it records; see `adaptclip card`. A push that breaks off publishes nothing; push
again. Log in with `hf auth login` or set HF_TOKEN.

kinds of model folder (--flavour):
  complete      all weights; loads where this package is installed
  adapters      a few MB that name their CLIP, which is fetched when the model is loaded
  remote-code   brings the code too; loads with trust_remote_code=True where this package is not installed""",
    )
    parser.add_argument(
        "what", type=Path, metavar="DIR|FILE", help="model folder, profile, or prompt bank (.safetensors)"
    )
    parser.add_argument("repo_id", metavar="REPO_ID", help="OWNER/NAME on the Hub; created if missing")
    parser.add_argument("--private", action="store_true", help="if the repository is created now, make it private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to; created if missing")
    parser.add_argument("--dry-run", action="store_true", help="list what would be pushed, and its size")
    model = parser.add_argument_group("a model")
    model.add_argument(
        "--results", type=Path, metavar="FILE", help="results.json of `adaptclip evaluate`, for the card"
    )
    model.add_argument("--flavour", choices=MODEL_FOLDERS, help="turn the folder into this kind first")
    model.add_argument("--clip", metavar="ID", help="the adapters' CLIP, where the model does not record it")
    model.add_argument("--clip-revision", metavar="COMMIT", help="its revision; the newest by default")
    model.add_argument(
        "--endpoint-handler",
        action="store_true",
        help="add the handler.py with which Hugging Face's Inference Endpoints serve it",
    )
    bank = parser.add_argument_group("a profile or a prompt bank")
    bank.add_argument("--model", help="the model that made it; a profile needs its Hub id where it knows a folder")
    bank.add_argument("--normal", type=Path, nargs="+", metavar="PATH", help="show thumbnails of these normal images")
    return parser


def run(args: argparse.Namespace) -> int:
    thing, what = to_publish(args)
    from ..hub.publishing import push_files
    from ..hub.staging import commit_message_for, stage

    with TemporaryDirectory() as temporary:
        files = stage(thing, Path(temporary), args.repo_id, **what)
        for file in files:
            print(f"{file.stat().st_size / 1e3:12,.1f} kB  {file.name}")
        print(f"{sum(file.stat().st_size for file in files) / 1e3:12,.1f} kB  in all")
        if not args.dry_run:
            message = commit_message_for(thing)
            print(f"pushed: {push_files(files, args.repo_id, args.private or None, args.revision, None, message)}")
    return 0


def to_publish(args: argparse.Namespace) -> tuple:
    """The prompt bank, profile or model folder that is meant, and the options of its kind."""
    if args.what.suffix == ".safetensors":
        refuse(args, "a prompt bank", *OF_A_MODEL)
        from ..image_files import find_images
        from ..modeling import PromptBank

        images = find_images(args.normal) if args.normal else None
        return PromptBank.from_pretrained(args.what), {"model": args.model, "normal_images": images}
    if (args.what / PROFILE_FILE).is_file():
        refuse(args, "a profile", *OF_A_MODEL, "normal")
        from ..inspection import InspectionProfile

        return InspectionProfile.from_pretrained(args.what), {"model": args.model}
    if args.model or args.normal:
        args.parser.error("--model and --normal apply only to a profile or a prompt bank")
    if args.clip and args.flavour != ADAPTERS:
        args.parser.error("--clip applies only to --flavour adapters")
    return args.what, {name: getattr(args, name) for name in OF_A_MODEL}


def refuse(args: argparse.Namespace, kind: str, *names: str):
    """Refuses arguments that do not apply to what is pushed, with exit status 2."""
    for name in given(args, *names):
        args.parser.error(f"{option(name)} does not apply to {kind}, which {args.what} is")
