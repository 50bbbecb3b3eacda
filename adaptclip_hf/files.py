"""Files that appear whole or not at all, and names that every file system takes."""

import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, SoftFileLock, Timeout

LOCK_FILE = ".lock"
LONGEST_NAME = 120  # bytes; file systems take 255, and an ending and a suffix are added
# of a lock on a share that has none: none left or none at all, no such call, not supported, not for this kind of file
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
# how spreadsheets begin a formula (tab, line ends and full-width signs too), or our apostrophe before one
FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
# separators, what Windows refuses, control characters
NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f]+')


def write_json(file: Path, content):
    """Writes a JSON file, which appears whole or not at all.

    Raises:
        ValueError: a value that JSON does not have, such as NaN.
    """
    write_whole(file, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_json(file: Path):
    """The content of a JSON file of ours.

    Raises:
        ValueError: it cannot be read; names the file.
    """
    try:
        return parse_json(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} cannot be read ({error}): remove it.") from error


def parse_json(text: str | bytes):
    """The value of a JSON text. It is in UTF-8, also with a byte order mark.

    Raises:
        ValueError: it is no JSON, is nested too deep, or holds NaN or infinity, which JSON does not have.
    """

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number} is no number that JSON has")
        return value

    text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
    try:
        try:
            return json.loads(text, parse_constant=finite, parse_float=finite)
        except json.JSONDecodeError:
            raise
        except ValueError as error:
            place = place_of_not_finite(json.loads(text))
            raise ValueError(f"{'.'.join(place)}: {error}" if place else str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def place_of_not_finite(content) -> list[str] | None:
    """Where the first number of a JSON value is that is not finite: the names that lead to it; `None` without one."""
    if isinstance(content, float) and not math.isfinite(content):
        return []
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in inner:
        if (place := place_of_not_finite(value)) is not None:
            return [str(name), *place]
    return None


def write_csv(file: Path, columns: Sequence[str], rows: Iterable[Iterable]):
    """Writes a CSV file, which appears whole or not at all; texts as [`csv_cell`]."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(map(csv_cell, row) for row in rows)
    write_whole(file, text.getvalue().encode(errors="replace"))


def csv_cell(value):
    """A value as a cell of a CSV file. A text that a spreadsheet would take for a formula gets an apostrophe before it.

    [`from_csv_cell`] takes it away again.
    """
    return f"'{value}" if isinstance(value, str) and FORMULA.match(value) else value


def from_csv_cell(text: str) -> str:
    """The text of a cell that [`csv_cell`] made."""
    return text[1:] if text.startswith("'") and FORMULA.match(text[1:]) else text


def write_whole(file: Path, content: bytes):
    """Writes a file, which appears whole or not at all."""
    with whole_file(file) as opened:
        opened.write(content)


@contextmanager
def whole_file(file: Path) -> Iterator[BinaryIO]:
    """A file to write, which appears when all is written, and not if an error is raised.

    A link in its place is replaced, and what it leads to stays.

    Raises:
        OSError: names the file, also where the disk is full.
    """
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        try:
            with temporary.open("xb") as opened:
                yield opened
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def append(file: Path, content: bytes):
    """Adds to a file's end, all of it or nothing.

    Raises:
        OSError: names the file, also where the disk is full.
    """
    with naming(file), file.open("ab", buffering=0) as opened:
        before = opened.tell()
        try:
            while content:
                content = content[opened.write(content) :]
        except BaseException:
            opened.truncate(before)
            raise


def write_array(opened: BinaryIO, array: np.ndarray):
    """Writes an array as `.npy`. NumPy's own way says of a full disk how many bytes, and not why."""
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(opened, np.lib.format.header_data_from_array_1_0(array))
    opened.write(array.data)


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Lets an error of the system name the file, which one that comes of writing does not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error


def inside(folder: Path, path: str | Path) -> Path:
    """A path below a folder, where neither `..` nor a link leads out of it.

    Args:
        path: relative to the folder.

    Raises:
        ValueError: it leads out; names both.
    """
    file = folder / path
    place = Path(os.path.realpath(file))  # as Path.resolve, which refuses links in a loop
    if not place.is_relative_to(os.path.realpath(folder)):
        raise ValueError(f"{file} leads out of {folder}, to {place}: nothing is written there.")
    return file


class NoLocksError(OSError):
    """A file system that has no locks, as some shares have none."""


@contextmanager
def locked(folder: Path, who: str, wait: float = 0) -> Iterator[None]:
    """Nobody else holds the lock of a folder meanwhile, in this process or another. A thread that holds it may take it
    again.

    Args:
        folder: it is made if it is not there.
        who: may hold it, for the message.
        wait: seconds to wait for the lock; -1 waits until it is free.

    Raises:
        NoLocksError: the folder lies on a share without locks; names the file and what to do.
        OSError: the folder cannot be written.
        ValueError: another one holds the lock; names the folder.
    """
    file = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file, is_singleton=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # filelock's, that it makes do without: refused below
            lock.acquire(timeout=wait)
    except Timeout as error:
        if isinstance(lock, SoftFileLock):
            raise no_locks(file, "a file stands for a lock") from error
        raise ValueError(f"{who} is writing to {folder}: wait for it, or name another folder.") from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, NotImplementedError) or error.errno in NO_LOCKS:
            raise no_locks(file, getattr(error, "strerror", error)) from error
        raise OSError(f"Nothing can be written to {folder} ({error.strerror}): name another folder.") from error
    try:
        # filelock then takes a file's being there for a lock, which stays where its process is killed
        if isinstance(lock, SoftFileLock):
            raise no_locks(file, "a file stands for a lock")
        yield
    finally:
        if lock.lock_counter == 1:  # whoever waits sees that the file is gone, and makes it anew
            with suppress(OSError):
                file.unlink()
        lock.release()


def no_locks(file: Path, reason: object) -> NoLocksError:
    return NoLocksError(
        f"{file} cannot be locked ({reason}): its file system has no locks. Name a folder on another disk, or mount "
        "the share with locks."
    )


def file_name(text: str) -> str:
    """A name that stays in its folder: no separators, no leading dots, not too long; the text itself where it can.

    What had to be changed ends with a digest of the whole, so that other texts get other names.
    """
    name = NOT_IN_NAMES.sub("_", text).strip(" .")
    kept = name.encode(errors="ignore")[:LONGEST_NAME].decode(errors="ignore")
    if kept == text and kept:
        return kept
    return f"{kept[:80]}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}".strip("-")


def new_name(path: Path, taken: Container[str]) -> str:
    """A name for the results of a file, without ending: its stem, with its parents' names or a number if it is taken.

    Args:
        taken: names in use, in lower case.
    """
    stem, parents = path.stem, "_".join([*path.parts[-3:-1], path.stem]).strip("/._")
    candidates = [stem, parents or stem]
    for number in range(2, 1_000_000):
        for candidate in candidates:
            name = file_name(candidate)
            if name.lower() not in taken:
                return name
        candidates = [f"{parents or stem}-{number}"]
    raise ValueError(f"There are too many files named like {path}.")


def digest_of_files(files: list[Path]) -> str:
    """SHA-256 of some files' contents."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def as_json(value):
    """A value as it comes back from a JSON file."""
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    return [as_json(each) for each in value] if isinstance(value, list | tuple) else value


def array_of(opened: Any, name: str) -> np.ndarray:
    """A tensor of a safetensors file that was opened for NumPy.

    Raises:
        ValueError: it is of a dtype that NumPy has not.
    """
    try:
        return opened.get_tensor(name)
    except (AttributeError, TypeError) as error:  # what safetensors raises then
        raise ValueError(
            f"{name} is stored as {opened.get_slice(name).get_dtype()}, a dtype that is not known here"
        ) from error
