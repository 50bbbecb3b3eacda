"""Inspection profiles to the Hub, with a card."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ..inspection import InspectionProfile
from ..model_files import CARD, DEFAULT_NAME
from .cards import is_hub_id, profile_card
from .pushing import push_files

MESSAGE = "Upload inspection profile"


def push_profile(
    profile: InspectionProfile,
    repo_id: str,
    model: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str = MESSAGE,
) -> str:
    """Pushes the profile and its card; `InspectionProfile.from_pretrained(repo_id)` and `profile=repo_id` load it.

    Args:
        repo_id: `OWNER/NAME`; made if it is not there.
        model: the Hub id of its model, where the profile knows a folder on this machine.

    Returns:
        `str`: the commit's URL.

    Raises:
        ValueError: the profile's model is a folder on this machine.
        OSError: as [`push_folder`].
    """
    with TemporaryDirectory() as temporary:
        files = stage_profile(profile, Path(temporary), repo_id, model)
        return push_files(files, repo_id, private, revision, token, commit_message)


def stage_profile(profile: InspectionProfile, folder: Path, repo_id: str, model: str | None = None) -> list[Path]:
    """The files of a profile as they shall be pushed; photos are named without their folders."""
    model = model or profile.model
    if model != DEFAULT_NAME and not is_hub_id(model):
        raise ValueError(f"The profile's model is the folder {model}: name its Hub id (model=, --model).")
    photos = tuple(replace(photo, name=Path(photo.name).name) for photo in profile.memory.photos)
    profile = replace(profile, model=model, memory=replace(profile.memory, photos=photos))
    profile.save_pretrained(folder)
    (folder / CARD).write_text(profile_card(profile, repo_id), encoding="utf-8")
    return sorted(folder.iterdir(), key=lambda file: -file.stat().st_size)
