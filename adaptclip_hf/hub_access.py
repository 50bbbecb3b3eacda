"""What a name that is no folder here may mean: a repository of the Hub, if the Hub can be reached."""

import difflib
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SECONDS = 10  # to wait for the Hub's first answer; later requests have retries of their own
NEAR = 3  # names that are told at most


def require_hub_id(name: str, kind: str, file: str, known: Iterable[str] = ()):
    """Refuses at once a name that is neither a folder here nor the id of a repository.

    Args:
        kind: what is looked for, such as "profile".
        file: what a folder of this kind holds.
        known: names that mean something else.

    Raises:
        FileNotFoundError: names folders whose names are near.
    """
    if not HUB_ID.fullmatch(name) or name.startswith("."):
        raise FileNotFoundError(
            f"No {kind} at {name}: there is no such folder, and it is no Hub id (OWNER/NAME)."
            f"{near_names(name, file, known)}"
        )


def near_names(name: str, file: str, known: Iterable[str] = ()) -> str:
    """Folders with such a file whose names are near, as a sentence; empty without any."""
    there = {each: each for each in known}
    with suppress(OSError):
        there |= {each.name: str(each) for each in Path(name).parent.iterdir() if (each / file).is_file()}
    near = difflib.get_close_matches(Path(name).name, there, n=NEAR)
    return f" Near it: {', '.join(there[each] for each in near)}." if near else ""


def reaching(hub: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a download, with `local_files_only` where the Hub does not answer.

    It is asked once, and what was downloaded before is then taken, without the retries of each file.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session, httpx

    if constants.HF_HUB_OFFLINE or hub.get("local_files_only"):
        return hub
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS, follow_redirects=False)
    except httpx.HTTPError:
        return hub | {"local_files_only": True}
    return hub
