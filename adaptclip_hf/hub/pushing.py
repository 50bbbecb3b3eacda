"""Models to the Hub: what goes, checked before, in one commit."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from ..modeling import AdaptCLIPModel
from ..modeling.adapters_file import ADAPTERS_FILE
from ..pretrained import load_model_and_processor, resolve_model
from ..processing import AdaptCLIPProcessor
from .cards import CARD, check_card, model_card
from .flavours import COMPLETE, code_files, flavour_of, save_flavour

# a model's own files and shards; nothing else of a folder that may hold checkpoints and logs
PUBLISHED = (
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    ADAPTERS_FILE,
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    CARD,
)


def published_files(folder: str | Path) -> list[Path]:
    """The files of a model folder that go to the Hub, the largest first.

    Raises:
        FileNotFoundError: no such folder, or one that lacks a file which a model needs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No model folder at {folder}.")
    resolve_model(folder)
    found = {file for pattern in PUBLISHED for file in folder.glob(pattern) if file.is_file()}
    found |= {folder / name for name in code_files(folder)}
    return sorted(found, key=lambda file: (-file.stat().st_size, file.name))


def push_folder(
    folder: str | Path,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str = "Upload AdaptCLIP model",
) -> str:
    """Pushes a model folder; weights first, then everything in one commit, so that no half of it ever loads.

    Args:
        folder: that save_pretrained of model and processor, training or `adaptclip convert` wrote.
        repo_id: `OWNER/NAME`; made if it is not there.
        private: of a repository that is made now.
        revision: branch; made if it is not there.

    Returns:
        `str`: the commit's URL.

    Raises:
        FileNotFoundError: as [`published_files`].
        ValueError: the card's metadata is not what the Hub takes.
        PermissionError: no token, or one that may not write there.
        HfHubHTTPError: the Hub refuses for another reason; nothing is published then.
        OSError: the connection broke; no half of it is published.
    """
    return push_files(published_files(folder), repo_id, private, revision, token, message)


def push_files(
    files: list[Path], repo_id: str, private: bool | None, revision: str | None, token: str | None, message: str
) -> str:
    """Pushes files of one folder in one commit; see [`push_folder`]."""
    folder = files[0].parent
    if (folder / CARD) in files:
        check_card(folder / CARD)
    hub = HfApi(token=token)
    try:
        repo_id = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            hub.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = hub.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=[file.name for file in files],
            revision=revision,
            commit_message=message,
        )
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise PermissionError(
                f"The Hub does not let you write {repo_id}: log in with `hf auth login`, or set HF_TOKEN to a token "
                f"that may write there. ({str(error).strip().splitlines()[-1]})"
            ) from error
        raise
    except (OSError, ValueError):
        raise
    except Exception as error:  # whatever huggingface_hub and the HTTP library below it call a broken connection
        reason = error.__cause__ or error
        raise OSError(f"The push to {repo_id} broke off ({reason}): no half of it is there, push again.") from error
    return commit.commit_url


def push_model(
    model: AdaptCLIPModel,
    repo_id: str,
    processor: AdaptCLIPProcessor | None = None,
    flavour: str = COMPLETE,
    results: str | Path | None = None,
    clip: str | None = None,
    clip_revision: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str = "Upload AdaptCLIP model",
) -> str:
    """Pushes model, processor and card to the Hub, in one commit: it loads in one line elsewhere.

    Args:
        repo_id: `OWNER/NAME`; made if it is not there.
        processor: the model's; by default the one that lies beside it where it was loaded from.
        flavour, clip, clip_revision: see [`save_flavour`].
        results: results.json of an evaluation, for the card.
        private: of a repository that is made now.
        revision: branch; made if it is not there.
        token: by default that of `hf auth login` or HF_TOKEN.

    Returns:
        `str`: the commit's URL.

    Raises:
        ValueError: the processor or the adapters' CLIP is not known.
        OSError: as [`push_folder`].
    """
    if processor is None:
        if not model.name_or_path:
            raise ValueError("The model was not loaded from a folder or the Hub: give its processor too (processor=).")
        processor = AdaptCLIPProcessor.from_pretrained(model.name_or_path)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_flavour(model, processor, folder, flavour, clip, clip_revision)
        add_card(folder, Path(model.name_or_path), repo_id, results)
        return push_folder(folder, repo_id, private, revision, token, commit_message)


def stage_model(
    source: Path,
    folder: Path,
    repo_id: str,
    flavour: str | None = None,
    results: str | Path | None = None,
    clip: str | None = None,
    clip_revision: str | None = None,
) -> Path:
    """A model folder as it shall be pushed, with its card: links to the files of `source`, or its other flavour."""
    files = published_files(source)
    if flavour in (None, flavour_of(source)):
        for file in files:
            (folder / file.name).symlink_to(file.resolve())
    else:
        model, processor = load_model_and_processor(source)
        save_flavour(model, processor, folder, flavour, clip, clip_revision)
    add_card(folder, source, repo_id, results)
    return folder


def add_card(folder: Path, source: Path, repo_id: str, results: str | Path | None = None):
    """The card of `source`; where it has none, or is of another flavour, a new one of what it records.

    Raises:
        ValueError: results for a model that has its own card; or as [`check_card`].
    """
    card = source / CARD
    if not card.is_file() or flavour_of(source) != flavour_of(folder):
        (folder / CARD).write_text(model_card(folder, repo_id, results, record_folder=source), encoding="utf-8")
    elif results is not None:
        raise ValueError(
            f"{card} is there already, and results go into a new card: remove it, or write it anew with "
            "`adaptclip card --overwrite`."
        )
    elif not (folder / CARD).exists():
        shutil.copyfile(card, folder / CARD)
    check_card(folder / CARD)


def push_pipeline(pipeline, repo_id: str, **options) -> str:
    """Pushes the pipeline's model, processor and card; see [`push_model`]."""
    return push_model(pipeline.model, repo_id, pipeline.processor, **options)
