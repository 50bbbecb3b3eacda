"""The files that are published of a model, a prompt bank or an inspection profile, each with its card."""

import shutil
from dataclasses import replace
from pathlib import Path

from ..inspection import InspectionProfile
from ..loading import load_model_and_processor
from ..model_files import CARD, DEFAULT_NAME, is_clip, resolve_model
from ..modeling import AdaptCLIPModel, PromptBank
from ..modeling.bank_content import BANK_FILE
from ..modeling.checksums import CHECKSUMS_FILE, write_checksums
from ..modeling.damage import WEIGHTS, require_undamaged, weights_in
from ..modeling.prompt_bank import is_bank
from ..processing import AdaptCLIPProcessor
from .cards import check_card, is_hub_id, model_card, profile_card, prompt_bank_card
from .model_folders import code_files, folder_kind, save_model_folder
from .thumbnails import thumbnail_sheet

Published = AdaptCLIPModel | PromptBank | InspectionProfile | Path

# the files and shards of a model; its folder may also hold checkpoints and logs
MODEL_FILES = (*WEIGHTS, "config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json", CARD)
SHEET_FILE = "normal_images.jpg"
HANDLER, REQUIREMENTS = "handler.py", "requirements.txt"


def stage(thing: Published, folder: Path, repo_id: str, token: bool | str | None = None, **what) -> list[Path]:
    """The files to publish; those that must be made go into the empty `folder`.

    Args:
        what: of the function for this kind of thing.
    """
    if is_bank(thing):
        return stage_prompt_bank(thing, folder, repo_id, **what)
    if isinstance(thing, InspectionProfile):
        return stage_profile(thing, folder, repo_id, **what)
    if isinstance(thing, Path):
        return stage_model_folder(thing, folder, repo_id, **what)
    return stage_model(thing, folder, repo_id, token, **what)


def commit_message_for(thing: Published) -> str:
    kind = "prompt bank" if is_bank(thing) else "inspection profile" if isinstance(thing, InspectionProfile) else None
    return f"Upload {kind or 'AdaptCLIP model'}"


def stage_model(
    model: AdaptCLIPModel,
    folder: Path,
    repo_id: str,
    token: bool | str | None = None,
    processor: AdaptCLIPProcessor | None = None,
    results: str | Path | None = None,
    **folder_options,
) -> list[Path]:
    """A model in memory, saved.

    Args:
        processor: the model's; by default the one that lies beside it where it was loaded from.
        results: results.json of an evaluation, for the card.
        folder_options: `flavour`, `clip`, `clip_revision` and `max_shard_size` of [`save_model_folder`].

    Raises:
        ValueError: the processor or the adapters' CLIP is not known; results for a model that has its own card.
    """
    if processor is None:
        if not model.name_or_path:
            raise ValueError("The model was not loaded from a folder or the Hub: give its processor too (processor=).")
        # of the commit that the model came from; a folder has none
        commit = getattr(model.config, "_commit_hash", None)
        processor = AdaptCLIPProcessor.from_pretrained(model.name_or_path, revision=commit or "main", token=token)
    save_model_folder(model, processor, folder, **folder_options)
    return with_card(folder, Path(model.name_or_path), folder, repo_id, results)


def stage_model_folder(
    source: Path,
    folder: Path,
    repo_id: str,
    flavour: str | None = None,
    results: str | Path | None = None,
    endpoint_handler: bool = False,
    **folder_options,
) -> list[Path]:
    """A model folder as it is, or turned into another kind.

    Args:
        flavour: as [`save_model_folder`] takes it; the folder's own by default.
        endpoint_handler: add the `handler.py` and `requirements.txt` by which Inference Endpoints serve the model.
        folder_options: `clip`, `clip_revision` and `max_shard_size` of [`save_model_folder`].

    Raises:
        FileNotFoundError: as [`published_files`].
        ValueError: as [`stage_model`].
    """
    published_files(source)
    kind = folder_kind(source)
    if flavour in (None, kind) and "max_shard_size" not in folder_options:
        files = with_card(source, source, folder, repo_id, results)
    else:
        model, processor = load_model_and_processor(source)
        files = stage_model(model, folder, repo_id, None, processor, results, flavour=flavour or kind, **folder_options)
    return files + (endpoint_files(folder) if endpoint_handler else [])


def published_files(folder: Path) -> list[Path]:
    """The files of a model folder that go to the Hub, the largest first.

    Raises:
        FileNotFoundError: no such folder, or one that lacks a file which a model needs.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"No model folder at {folder}.")
    if is_clip(folder):
        raise FileNotFoundError(f"{folder} is a plain CLIP, not an AdaptCLIP model: train adapters on it first.")
    resolve_model(folder)
    found = {file for pattern in MODEL_FILES for file in folder.glob(pattern) if file.is_file()}
    found |= {folder / name for name in code_files(folder)}
    return sorted(found, key=lambda file: (-file.stat().st_size, file.name))


def with_card(model: Path, source: Path, folder: Path, repo_id: str, results: str | Path | None) -> list[Path]:
    """The files of a model folder, with the card of `source`, or a new one in `folder` of what `source` records.

    Raises:
        ValueError: results for a model that has its own card; or as [`check_card`].
    """
    card = source / CARD
    if not card.is_file() or folder_kind(source) != folder_kind(model):
        card = folder / CARD
        card.write_text(model_card(model, repo_id, results, record_folder=source), encoding="utf-8")
    elif results is not None:
        raise ValueError(
            f"{card} exists already, and results go only into a new card: remove it, or replace it with "
            "`adaptclip card --overwrite`."
        )
    check_card(card)
    return [*(file for file in published_files(model) if file.name != CARD), card, checksums_of(model, folder)]


def checksums_of(model: Path, folder: Path) -> Path:
    """The `SHA256SUMS` of a model folder, which its weights have; written into `folder` where an older one has none, so
    that no sum of an earlier push stays beside other weights.

    Raises:
        ValueError: the weights are damaged.
    """
    weights = weights_in(model)
    require_undamaged(model / name for name in sorted(weights))
    if (model / CHECKSUMS_FILE).is_file():
        return model / CHECKSUMS_FILE
    write_checksums(model, weights, into=folder)
    return folder / CHECKSUMS_FILE


def endpoint_files(folder: Path) -> list[Path]:
    """`handler.py` and `requirements.txt`, written into a folder, by which Inference Endpoints serve a model."""
    shutil.copy(Path(__file__).with_name("endpoint_handler.py"), folder / HANDLER)
    (folder / REQUIREMENTS).write_text("adaptclip-hf\n")
    return [folder / HANDLER, folder / REQUIREMENTS]


def stage_prompt_bank(
    bank: PromptBank, folder: Path, repo_id: str, model: str | None = None, normal_images: list | None = None
) -> list[Path]:
    """
    Args:
        model: folder or Hub id of the model that made it, for the card.
        normal_images: the images it was made of, for a sheet of thumbnails; by default no image is shown.
    """
    files = [bank.save_pretrained(folder / BANK_FILE)]
    if normal_images is not None:
        thumbnail_sheet(normal_images).save(folder / SHEET_FILE)
        files.append(folder / SHEET_FILE)
    card = prompt_bank_card(bank, repo_id, model, SHEET_FILE if normal_images is not None else None)
    (folder / CARD).write_text(card, encoding="utf-8")
    return [*files, folder / CARD]


def stage_profile(profile: InspectionProfile, folder: Path, repo_id: str, model: str | None = None) -> list[Path]:
    """A profile whose photos are named without their folders, and nobody who worked on it; the photos stay here.

    Args:
        model: the Hub id of its model, where the profile knows a folder on this machine.

    Raises:
        ValueError: the profile's model is a folder on this machine.
    """
    model = model or profile.model
    if model != DEFAULT_NAME and not is_hub_id(model):
        raise ValueError(f"The profile's model is the folder {model}: name its Hub id (model=, --model).")
    photos = tuple(replace(photo, name=Path(photo.name).name) for photo in profile.features.photos)
    profile = replace(profile, model=model, features=replace(profile.features, photos=photos), history=())
    profile.save_pretrained(folder)
    (folder / CARD).write_text(profile_card(profile, repo_id), encoding="utf-8")
    return sorted(folder.iterdir(), key=lambda file: -file.stat().st_size)
