"""A model folder to the Hub: what goes, checked before, in one commit."""

from pathlib import Path

from huggingface_hub import HfApi

from .pretrained import resolve_model

CARD = "README.md"
# a model's own files and shards; nothing else of a folder that may hold checkpoints and logs
PUBLISHED = (
    "config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    CARD,
)


def published_files(folder: str | Path) -> list[Path]:
    """The files of a complete model folder that go to the Hub, the largest first.

    Raises:
        FileNotFoundError: no such folder, or one that lacks a file which a model needs.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"No model folder at {folder}.")
    resolve_model(folder)
    found = {file for pattern in PUBLISHED for file in folder.glob(pattern) if file.is_file()}
    return sorted(found, key=lambda file: (-file.stat().st_size, file.name))


def push_folder(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    revision: str | None = None,
    message: str = "Upload AdaptCLIP model",
) -> str:
    """Pushes a complete model folder; weights first, then everything in one commit, so that no half of it ever loads.

    Args:
        folder: that save_pretrained of model and processor, training or `adaptclip convert` wrote.
        repo_id: `OWNER/NAME`; made if it is not there.
        private: of a repository that is made now.
        revision: branch; made if it is not there.

    Returns:
        `str`: the commit's URL.

    Raises:
        FileNotFoundError: as [`published_files`].
        HfHubHTTPError: the Hub refuses; nothing is published then.
        OSError: the connection broke; nothing is published then either.
    """
    files = [file.name for file in published_files(folder)]
    hub = HfApi()
    repo_id = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None:
        hub.create_branch(repo_id, branch=revision, exist_ok=True)
    try:
        commit = hub.upload_folder(
            repo_id=repo_id, folder_path=folder, allow_patterns=files, revision=revision, commit_message=message
        )
    except RuntimeError as error:  # what huggingface_hub makes of a connection that broke while weights went
        reason = error.__cause__ or error
        raise OSError(f"The upload to {repo_id} broke off ({reason}): nothing is published, push again.") from error
    return commit.commit_url
