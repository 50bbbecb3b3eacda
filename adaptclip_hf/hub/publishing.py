"""A model, a prompt bank or an inspection profile to the Hub, in one commit."""

from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import CommitOperationAdd, HfApi
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
    token: str | None = None,
    commit_message: str | None = None,
    **what,
) -> str:
    """Pushes a model, a prompt bank or an inspection profile, and its card, in one commit.

    Args:
        thing: the model (or its folder), prompt bank or profile.
        repo_id: `OWNER/NAME`; created if missing.
        private: whether a new repository is private.
        revision: branch; created if missing.
        token: by default that of `hf auth login` or HF_TOKEN.
        what: of [`stage_model`], [`stage_prompt_bank`] or [`stage_profile`].

    Returns:
        `str`: the commit's URL.

    Raises:
        FileNotFoundError: a model folder that is not there or not complete.
        ValueError: as the staging functions; or the Hub would refuse the card's metadata.
        PermissionError: no token, or one without write access.
        HfHubHTTPError: the Hub refuses for another reason; nothing is published.
        OSError: the connection broke; nothing is published.
    """
    with TemporaryDirectory() as temporary:
        files = stage(thing, Path(temporary), repo_id, token, **what)
        return push_files(files, repo_id, private, revision, token, commit_message or commit_message_for(thing))


def push_files(
    files: list[Path], repo_id: str, private: bool | None, revision: str | None, token: str | None, message: str
) -> str:
    """Pushes files in one commit, all or none; see [`publish`]."""
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
    except (HTTPError, RuntimeError) as error:  # huggingface_hub raises either when an upload breaks off
        reason = error.__cause__ or error
        raise OSError(f"The push to {repo_id} broke off ({reason}): nothing was published, push again.") from error
    return commit.commit_url
