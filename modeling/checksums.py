"""SHA-256 of a folder's files, as `sha256sum` writes and checks them: what is damaged is refused when it is opened."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

CHECKSUMS_FILE = "SHA256SUMS"
LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")

# a file of 1.2 GB is read once in a process, and again when it changes
_known: dict[tuple, str] = {}


def write_checksums(folder: Path, names: Iterable[str], into: Path | None = None):
    """Writes the SHA-256 of some of a folder's files to `SHA256SUMS`, there or in another folder."""
    lines = [f"{sha256_of(folder / name)}  {name}\n" for name in sorted(names)]
    ((into or folder) / CHECKSUMS_FILE).write_text("".join(lines), encoding="utf-8")


def read_checksums(file: Path) -> dict[str, str]:
    """{name: SHA-256} of a `SHA256SUMS`; empty if there is no such file.

    Raises:
        ValueError: a line is not of such a file.
    """
    if not file.is_file():
        return {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is damaged ({error}): get the folder again from where it came.") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        if not (match := LINE.fullmatch(line)):
            raise ValueError(f"{file}, line {number}, is no SHA-256 and a name: get the folder again from its source.")
        found[match[2]] = match[1]
    return found


def require_sha256(file: Path, expected: str):
    """Refuses a file that is not what it was when its SHA-256 was written.

    Raises:
        ValueError: names the file.
    """
    if sha256_of(file) != expected:
        raise ValueError(
            f"{file} is damaged or was changed: its SHA-256 is not the one that was written with it. Get it again from "
            f"where it came, or make it anew; if you changed it yourself, remove {file.with_name(CHECKSUMS_FILE)}."
        )


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, computed once in a process as long as its size, times and inode stay the same."""
    about = file.stat()
    key = (str(file.absolute()), about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    if key not in _known:
        with file.open("rb") as opened:
            _known[key] = hashlib.file_digest(opened, "sha256").hexdigest()
    return _known[key]
