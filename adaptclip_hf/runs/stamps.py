"""Which file an image is, wherever it is named from, and whether it has changed since it was scored."""

import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from .folder import is_remote


class Stamp(NamedTuple):
    """A file as it was at a moment; a file that is not there has none of this.

    Attributes:
        bytes: its size.
        modified: when its content was changed, in ns, as its writer says.
        changed: when the file system saw the last change of any kind, in ns: nobody can set it back. A copy of the file
            has another.
        sha256: of its content; tells a copy from another content of the same size and time.
    """

    bytes: int | None = None
    modified: int | None = None
    changed: int | None = None
    sha256: str | None = None


UNKNOWN = Stamp(-1, -1)


def stamp_here(path: str) -> Stamp:
    """Of a file on this machine, without reading it."""
    file = Path(path)
    try:
        if not file.is_file():
            return Stamp()
        status = file.stat()
    except (OSError, ValueError):  # it has gone since, or the text is no path
        return Stamp()
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def with_digest(stamp: Stamp, path: str) -> Stamp:
    """A file's stamp with the digest of its content, where it can be read."""
    return stamp if stamp.bytes is None else stamp._replace(sha256=digest_of(path))


def has_changed(path: str, before: Stamp, now: Stamp) -> bool:
    """Whether a file has another content than it had. It is read where size and time alone cannot tell."""
    if UNKNOWN[:2] in (before[:2], now[:2]):
        return False
    if before[:2] != now[:2]:
        return True
    if before.changed in (None, now.changed):  # none: of an earlier version, or elsewhere
        return False
    return before.sha256 is None or digest_of(path) != before.sha256


def digest_of(path: str) -> str | None:
    try:
        with Path(path).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return None


def identity(path: str) -> str:
    """The same text however a file is named: its address, or its place on this machine.

    Links to folders are followed. A link to a file is an image of its own, as people see it in their folder.
    """
    if is_remote(path):
        return path
    folder, name = os.path.split(path)
    folder = os.path.join(os.getcwd(), folder)  # noqa: PTH109, PTH118 (fast, as all here: for each image of millions)
    return os.path.join(real_folder(folder, int(time.monotonic())), name)  # noqa: PTH118


@lru_cache(maxsize=1024)
def real_folder(folder: str, second: int) -> str:
    """A folder's place without links. It is asked for again each second: a link may be set anew while a run watches."""
    return os.path.realpath(folder)
