"""Images that are there twice with other meanings: for training and for testing, or as good and as anomalous."""

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..reporting import Report

if TYPE_CHECKING:
    import datasets

PIECE = 4096  # bytes, of which three of a file are compared before all are
SHOWN = 10  # pairs


@dataclass(frozen=True)
class UsedImage:
    """An image and what it stands for.

    Attributes:
        name: a path, or the name of an image in a table.
        role: such as "train, good".
        content: its bytes; `None` for a file.
    """

    name: str
    role: str
    content: memoryview | None = None


def report_same_bytes(dataset: "datasets.Dataset", report: Report):
    """Reports images of different splits or labels that hold the same bytes.

    Images of the same size are compared by three pieces, and only those that agree as a whole.
    """
    column = dataset.with_format("arrow")[:]["image"]
    roles = zip(dataset["split"], dataset["label"], strict=True)
    images = []
    for image, (split, label) in zip(column, roles, strict=True):
        content = image["bytes"].as_buffer() if image.is_valid else None
        name = image["path"].as_py() if image.is_valid else None
        if name is not None or content is not None:
            role = f"{split}, {'anomalous' if label else 'good'}"
            images.append(UsedImage(name or "an image", role, None if content is None else memoryview(content)))
    report_pairs(images, report)


def report_pairs(images: Iterable[UsedImage], report: Report):
    """Reports images of the same bytes and different roles."""
    found = list(same_bytes(images))
    for first, second in found[:SHOWN]:
        report(f"{first.name} ({first.role}) and {second.name} ({second.role}) hold the same bytes")
    if len(found) > SHOWN:
        report(f"{len(found) - SHOWN} more images are there twice with different meanings")


def same_bytes(images: Iterable[UsedImage]) -> Iterator[tuple[UsedImage, UsedImage]]:
    """Pairs of the same bytes with different roles: each image with the first of its bytes."""
    groups: list[Sequence[UsedImage]] = [list(images)]
    for key in (size_of, pieces_of, digest_of):
        groups = [part for group in groups for part in parted(group, key)]
    for first, *others in groups:
        yield from ((first, other) for other in others if other.role != first.role)


def parted(group: Sequence[UsedImage], key: Callable[[UsedImage], Hashable]) -> Iterator[Sequence[UsedImage]]:
    """The parts of a group that have the same key and more than one role."""
    parts: dict[Hashable, list[UsedImage]] = {}
    for image in group:
        try:
            parts.setdefault(key(image), []).append(image)
        except (OSError, ValueError):
            continue  # not there, or not readable: reported when it is read
    for part in parts.values():
        if len({image.role for image in part}) > 1:
            yield part


def size_of(image: UsedImage) -> int:
    return os.stat(image.name).st_size if image.content is None else len(image.content)  # noqa: PTH116


def pieces_of(image: UsedImage) -> bytes:
    """The beginning, the middle and the end."""
    size = size_of(image)
    places = (0, size // 2, max(0, size - PIECE))
    if image.content is not None:
        return b"".join(image.content[place : place + PIECE] for place in places)
    with Path(image.name).open("rb") as opened:
        pieces = []
        for place in places:
            opened.seek(place)
            pieces.append(opened.read(PIECE))
    return b"".join(pieces)


def digest_of(image: UsedImage) -> str:
    if image.content is not None:
        return hashlib.sha256(image.content).hexdigest()
    with Path(image.name).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
