"""Prompt banks to the Hub, with a card and perhaps a sheet of thumbnails."""

import math
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageOps

from ..model_files import CARD
from ..modeling import PromptBank
from ..modeling.prompt_bank import BANK_FILE
from ..processing.image_loading import load_image
from .cards import prompt_bank_card
from .pushing import push_files

SHEET_FILE = "normal_images.jpg"
MESSAGE = "Upload prompt bank"
SIDE, GAP, COLUMNS = 160, 8, 6


def push_prompt_bank(
    bank: PromptBank,
    repo_id: str,
    model: str | None = None,
    normal_images: list | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str = MESSAGE,
) -> str:
    """Pushes the bank and its card; `PromptBank.from_pretrained(repo_id)` and `prompt_bank=repo_id` load it.

    Args:
        repo_id: `OWNER/NAME`; made if it is not there.
        model: folder or Hub id of the model that made it, for the card.
        normal_images: the images it was made of, for a sheet of thumbnails; by default no image is shown.

    Returns:
        `str`: the commit's URL.

    Raises:
        OSError: as [`push_folder`].
    """
    with TemporaryDirectory() as temporary:
        files = stage_prompt_bank(bank, Path(temporary), repo_id, model, normal_images)
        return push_files(files, repo_id, private, revision, token, commit_message)


def stage_prompt_bank(
    bank: PromptBank, folder: Path, repo_id: str, model: str | None = None, normal_images: list | None = None
) -> list[Path]:
    """The files of a bank as they shall be pushed: the bank, its card, perhaps a sheet of thumbnails."""
    files = [bank.save_pretrained(folder / BANK_FILE)]
    if normal_images is not None:
        thumbnail_sheet(normal_images).save(folder / SHEET_FILE)
        files.append(folder / SHEET_FILE)
    card = prompt_bank_card(bank, repo_id, model, SHEET_FILE if normal_images is not None else None)
    (folder / CARD).write_text(card, encoding="utf-8")
    return [*files, folder / CARD]


def thumbnail_sheet(images: list) -> Image.Image:
    """Thumbnails of images (anything that `load_image` reads) on white, six a row."""
    columns = min(COLUMNS, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, rows * (SIDE + GAP) + GAP), "white")
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        small = ImageOps.pad(load_image(image), (SIDE, SIDE), color="white")
        sheet.paste(small, (GAP + column * (SIDE + GAP), GAP + row * (SIDE + GAP)))
    return sheet
