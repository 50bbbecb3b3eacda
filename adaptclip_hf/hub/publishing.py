"""A model, a prompt bank or an inspection profile to the Hub, in one commit."""

from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from ..model_files import CARD
from .cards import check_card
from .staging import Published, commit_message_for, stage


def publish(
    thing: Published,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: bool | str | None = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    create_pr: bool = False,
    tags: list[str] | None = None,
    **what,
) -> CommitInfo:
    """Pushes a model, a prompt bank or an inspection profile, and its card, in one commit.

    Args:
        thing: the model (or its folder), prompt bank or profile.
        repo_id: `OWNER/NAME`; created if missing.
        private: whether a new repository is private.
        revision: branch; created if missing.
        token: by default that of `hf auth login` or HF_TOKEN.
        create_pr: propose the commit as a pull request.
        tags: more tags of the card.
        what: of [`stage_model`], [`stage_prompt_bank`] or [`stage_profile`].

    Returns:
        `CommitInfo`: a `str`, the commit's URL; `pr_url` is that of its pull request.

    Raises:
        FileNotFoundError: a model folder that is not there or not complete.
        ValueError: as the staging functions; or the Hub would refuse the card's metadata.
        PermissionError: no token, or one without write access.
        HfHubHTTPError: the Hub refuses for another reason; nothing is published.
        OSError: the connection broke; nothing is published.
    """
    with TemporaryDirectory() as temporary:
        files = stage(thing, Path(temporary), repo_id, token, **what)
        if tags:
            files = [tagged(file, tags, Path(temporary)) if file.name == CARD else file for file in files]
        message = commit_message or commit_message_for(thing)
        return push_files(files, repo_id, private, revision, token, message, commit_description, create_pr)


def tagged(card: Path, tags: list[str], folder: Path) -> Path:
    """A card with more tags, written into a folder."""
    content = ModelCard.load(card)
    known = content.data.tags or []
    content.data.tags = [*known, *(tag for tag in dict.fromkeys(tags) if tag not in known)]
    content.save(folder / CARD)
    return folder / CARD


def push_files(
    files: list[Path],
    repo_id: str,
    private: bool | None,
    revision: str | None,
    token: bool | str | None,
    message: str,
    description: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    """Pushes files in one commit, all or none; see [`publish`]."""
    for card in (file for file in files if file.name == CARD):
        check_card(card)
    hub = HfApi(token=token)
    try:
        repo_id = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr/"):
            make_branch(hub, repo_id, revision, create_pr)
        return hub.create_commit(
            repo_id,
            [CommitOperationAdd(file.name, file) for file in files],
            commit_message=message,
            commit_description=description,
            revision=revision,
            create_pr=create_pr,
        )
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise PermissionError(
                f"The Hub does not let you write {repo_id}: log in with `hf auth login`, or set HF_TOKEN to a token "
                f"that may write there. ({str(error).strip().splitlines()[-1]})"
            ) from error
        raise
    except (HTTPError, RuntimeError) as error:  # huggingface_hub raises either when an upload breaks off
        reason = error.__cause__ or error
        raise OSError(f"The push to {repo_id} broke off ({reason}): nothing was published, push again.") from error


def make_branch(hub: HfApi, repo_id: str, branch: str, create_pr: bool):
    """Makes a branch that is not there; who may propose but not write counts on its being there."""
    try:
        hub.create_branch(repo_id, branch=branch, exist_ok=True)
    except HfHubHTTPError as error:
        if not create_pr or error.response.status_code != 403:
            raise
