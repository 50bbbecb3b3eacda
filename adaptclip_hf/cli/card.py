"""`adaptclip card`: the card of a model or data set, to read and edit before it is pushed."""

import argparse
from pathlib import Path


def add_command(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "card",
        help="write the card of a model or data set",
        description="Writes README.md, the Hub's card, into a model folder or a data set's folder: what it is, code "
        "to run, the recorded training, the measured results, limits.",
        epilog="""examples:
  adaptclip card adaptclip-parts me/adaptclip-parts --results results/results.json --license mit
  adaptclip card mvtec:data/parts me/parts           # a data set: LAYOUT:FOLDER or folder, see `adaptclip data --help`

`adaptclip push` writes a model's card itself where there is none. Results must be of exactly these weights.""",
    )
    parser.add_argument("what", metavar="DIR|SPEC", help="model folder, or a data set")
    parser.add_argument("repo_id", metavar="REPO_ID", help="OWNER/NAME, which the card's code loads")
    parser.add_argument("--results", type=Path, metavar="FILE", help="results.json of `adaptclip evaluate`")
    parser.add_argument("--license", metavar="ID", help="such as apache-2.0; none by default")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing README.md")
    return parser


def run(args: argparse.Namespace) -> int:
    from ..data.specs import load_data_set, resolve_spec
    from ..files import write_whole
    from ..hub.cards import check_card, data_set_card, model_card
    from ..model_files import CARD

    if (Path(args.what) / "config.json").is_file():
        folder = Path(args.what)
        card = model_card(folder, args.repo_id, args.results, args.license)
    elif args.results:
        args.parser.error(f"--results applies to a model, and {args.what} is not a model folder")
    else:
        folder = Path(resolve_spec(args.what)[1])
        card = data_set_card(load_data_set(args.what), args.repo_id, args.license)
    file = folder / CARD
    if file.exists() and not args.overwrite:
        raise ValueError(f"{file} exists already; --overwrite replaces it.")
    write_whole(file, card.encode(errors="replace"))
    check_card(file)
    print(f"written: {file}")
    return 0
