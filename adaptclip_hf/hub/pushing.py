"""Models to the Hub: what goes, checked before, in one commit."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from ..loading import load_model_and_processor
from ..model_files import CARD, COMPLETE, is_clip, resolve_model
from ..modeling import AdaptCLIPModel
from ..modeling.adapters_file import ADAPTERS_FILE
from ..processing import AdaptCLIPProcessor
from .cards import check_card, model_card
from .flavours import code_files, flavour_of, save_flavour

MESSAGE = "Upload AdaptCLIP model"
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


HANDLER, REQUIREMENTS = "handler.py", "requirements.txt"


def endpoint_files(folder: Path) -> list[Path]:
    """`handler.py` and `requirements.txt`, written into a folder, by which Inference Endpoints serve a model."""
    shutil.copy(Path(__file__).with_name("endpoint_handler.py"), folder / HANDLER)
    (folder / REQUIREMENTS).write_text("adaptclip-hf\n")
    return [folder / HANDLER, folder / REQUIREMENTS]


def published_files(folder: str | Path) -> list[Path]:
    """The files of a model folder that go to the Hub, the largest first.

    Raises:
        FileNotFoundError: no such folder, or one that lacks a file which a model needs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No model folder at {folder}.")
    if is_clip(folder):
        raise FileNotFoundError(f"{folder} is a plain CLIP, not an AdaptCLIP model: train adapters on it first.")
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
    message: str = MESSAGE,
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
    """Pushes files in one commit; see [`push_folder`]."""
    for card in (file for file in files if file.name == CARD):
        check_card(card)
    hub = HfApi(token=token)
    try:
        repo_id = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            hub.create_branch(repo_id, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(file.name, file) for file in files]
        commit = hub.create_commit(repo_id, operations, commit_message=message, revision=revision)
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise PermissionError(
                f"The Hub does not let you write {repo_id}: log in with `hf auth login`, or set HF_TOKEN to a token "
                f"that may write there. ({str(error).strip().splitlines()[-1]})"
            ) from error
        raise
    except (HTTPError, RuntimeError) as error:  # so huggingface_hub and the HTTP library below it call a broken upload
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
    commit_message: str = MESSAGE,
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
        # of the commit that the model came from; a folder has none
        commit = getattr(model.config, "_commit_hash", None)
        processor = AdaptCLIPProcessor.from_pretrained(model.name_or_path, revision=commit or "main", token=token)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_flavour(model, processor, folder, flavour, clip, clip_revision)
        add_card(folder, Path(model.name_or_path), repo_id, results)
        return push_folder(folder, repo_id, private, revision, token, commit_message)


def staged_model(
    source: Path,
    folder: Path,
    repo_id: str,
    flavour: str | None = None,
    results: str | Path | None = None,
    clip: str | None = None,
    clip_revision: str | None = None,
) -> list[Path]:
    """The files of a model as they shall be pushed: those of `source`, or of its other flavour made in `folder`, and
    its card, in `folder` where it is a new one."""
    files = published_files(source)
    if flavour not in (None, flavour_of(source)):
        model, processor = load_model_and_processor(source)
        save_flavour(model, processor, folder, flavour, clip, clip_revision)
        add_card(folder, source, repo_id, results)
        return published_files(folder)
    card = source / CARD
    if not card.is_file():
        card = folder / CARD
        card.write_text(model_card(source, repo_id, results), encoding="utf-8")
    elif results is not None:
        raise card_is_there(card)
    check_card(card)
    return [*(file for file in files if file.name != CARD), card]


def card_is_there(card: Path) -> ValueError:
    return ValueError(
        f"{card} is there already, and results go into a new card: remove it, or write it anew with "
        "`adaptclip card --overwrite`."
    )


def add_card(folder: Path, source: Path, repo_id: str, results: str | Path | None = None):
    """The card of `source`; where it has none, or is of another flavour, a new one of what it records.

    Raises:
        ValueError: results for a model that has its own card; or as [`check_card`].
    """
    card = source / CARD
    if not card.is_file() or flavour_of(source) != flavour_of(folder):
        (folder / CARD).write_text(model_card(folder, repo_id, results, record_folder=source), encoding="utf-8")
    elif results is not None:
        raise card_is_there(card)
    elif not (folder / CARD).exists():
        shutil.copyfile(card, folder / CARD)
    check_card(folder / CARD)
