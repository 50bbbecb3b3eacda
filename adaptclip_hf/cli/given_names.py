"""What a call names and is not there: refused at once, before anything is imported that takes seconds."""

import difflib
import glob
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..hub_access import NEAR, require_hub_id
from ..model_files import DEFAULT_NAME, PROFILE_FILE, resolve_model

CONFIG_FILE = "config.json"


def require_photos(option: str, paths: Iterable[str], files_too: bool = False):
    """Refuses folders that are not there, and patterns that match nothing.

    A photo that is not there is passed over later like any that cannot be read: its name has an ending, and a folder's
    has none.

    Args:
        option: by which the call names them, for the message; empty where they have none.
        files_too: refuse photos as well, where none of all the paths is there.

    Raises:
        FileNotFoundError, ValueError: names the path.
    """
    paths = [path for path in map(str, paths) if "://" not in path]
    missing = [path for path in paths if not is_there(path)]
    for path in missing:
        if glob.has_magic(path):
            raise ValueError(f"Nothing matches {path}.")
        if not Path(path).suffix or path.endswith(("/", os.sep)) or (files_too and len(missing) == len(paths)):
            raise FileNotFoundError(
                f"No photos at {path}{option and f' ({option})'}: no such file or folder.{near(path)}"
            )


def is_there(path: str) -> bool:
    """Whether something has this path, or matches it."""
    if os.path.lexists(path) or "**" in path:
        return True
    return glob.has_magic(path) and next(glob.iglob(path), None) is not None  # noqa: PTH207


def require_file(option: str, path: str | Path | None):
    """
    Raises:
        FileNotFoundError: there is no such file; names it.
    """
    if path is not None and not Path(path).is_file():
        raise FileNotFoundError(f"No file at {path} ({option}).{near(str(path))}")


def require_profile(name: str | Path | None):
    """Refuses a name that can be no profile; an id of the Hub is asked for later.

    Raises:
        FileNotFoundError: names what is near.
    """
    if name is None:
        return
    if not Path(name).is_dir():
        require_hub_id(str(name), "profile", PROFILE_FILE)
    elif not (Path(name) / PROFILE_FILE).is_file():
        raise FileNotFoundError(f"No profile in {name}: expected {PROFILE_FILE}, which `adaptclip fit` writes.")


def require_model(name: str | None):
    """Refuses a name that can be no model; an id of the Hub is asked for later.

    Raises:
        FileNotFoundError: names what is near.
    """
    if name is not None and not Path(found := resolve_model(name)).is_dir():
        require_hub_id(found, "model", CONFIG_FILE, known=(DEFAULT_NAME,))


def near(path: str) -> str:
    """What lies where a path was looked for and has nearly its name, as a sentence; empty without any."""
    there: dict[str, str] = {}
    with suppress(OSError, ValueError):
        there = {each.name: str(each) for each in Path(path).parent.iterdir()}
    found = difflib.get_close_matches(Path(path).name, there, n=NEAR)
    return f" Near it: {', '.join(there[each] for each in found)}." if found else ""
