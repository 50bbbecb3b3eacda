"""Images that are there twice with other meanings: for training and for testing, or as good and as anomalous."""

import hashlib
import os
from collections.abc import Iterable, Iterator

import datasets

PIECE = 4096  # bytes, of which three of a file are compared before all are
SHOWN = 10  # pairs

Role = tuple[str, int]  # split and label


def report_same_bytes(dataset: datasets.Dataset, report):
    """Reports images of different splits or labels whose files hold the same bytes.

    Files of the same size are compared by three pieces, and only those that agree as a whole. Images that are not
    files are left out.
    """
    columns = dataset.with_format("arrow")
    paths = [each and each["path"] for each in columns["image"].to_pylist()]
    images = zip(paths, dataset["split"], dataset["label"], strict=True)
    found = list(same_files((path, (split, label)) for path, split, label in images if path))
    for (first, role), (second, other) in found[:SHOWN]:
        report(f"{first} ({described(role)}) and {second} ({described(other)}) hold the same bytes")
    if len(found) > SHOWN:
        report(f"{len(found) - SHOWN} more images are there twice, in train and test or as good and as anomalous")


def described(role: Role) -> str:
    return f"{role[0]}, {'anomalous' if role[1] else 'good'}"


def same_files(images: Iterable[tuple[str, Role]]) -> Iterator[tuple[tuple[str, Role], tuple[str, Role]]]:
    """Pairs of the same bytes with different roles: each image with the first of its bytes."""
    groups = [list(images)]
    for key in (size_of, pieces_of, digest_of):
        groups = [part for group in groups for part in parted(group, key)]
    for first, *others in groups:
        yield from ((first, other) for other in others if other[1] != first[1])


def parted(group: list[tuple[str, Role]], key) -> Iterator[list[tuple[str, Role]]]:
    """The parts of a group that have the same key and more than one role."""
    parts: dict[object, list[tuple[str, Role]]] = {}
    for path, role in group:
        try:
            parts.setdefault(key(path), []).append((path, role))
        except OSError:
            continue  # not there, or not readable: reported when it is read
    for part in parts.values():
        if len({role for _, role in part}) > 1:
            yield part


def size_of(path: str) -> int:
    return os.stat(path).st_size  # noqa: PTH116


def pieces_of(path: str) -> bytes:
    """The beginning, the middle and the end of a file."""
    with open(path, "rb") as opened:  # noqa: PTH123
        size = opened.seek(0, os.SEEK_END)
        pieces = []
        for place in (0, size // 2, max(0, size - PIECE)):
            opened.seek(place)
            pieces.append(opened.read(PIECE))
    return b"".join(pieces)


def digest_of(path: str) -> str:
    with open(path, "rb") as opened:  # noqa: PTH123
        return hashlib.file_digest(opened, "sha256").hexdigest()
