"""Where the weights of an ONNX graph lie, read from its protobuf without a library: that takes a second to import."""

import mmap
from collections.abc import Iterator
from pathlib import Path

# numbers of the fields (onnx.proto) by which a message of a kind holds others: {kind: {field: kind of what it holds}}
HELD = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
KEY, VALUE, LOCATION = 1, 2, "location"
VARINT, LENGTH = 0, 2  # kinds of fields: a number, bytes with their length
FIXED = {1: 8, 5: 4}  # and numbers of so many bytes
KEYS = 2**32  # a runtime cuts a field's key off there and takes it for another one


def require_own_weights(file: Path):
    """Refuses a graph whose weights lie in another file than the one beside it.

    Raises:
        ValueError: names that file, or the graph is damaged.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for location in locations(content, 0, len(content), "model"):
            if file.parent / location != file.with_name(f"{file.name}.data"):
                raise ValueError(f"{file.name} reads weights of {location!r}, expected {file.name}.data")


def locations(content: mmap.mmap, first: int, end: int, kind: str) -> Iterator[str]:
    """The names of the files in which tensors of a message lie."""
    entry: dict[int, str] = {}
    for field, start, stop in fields_of(content, first, end):
        if kind == "entry":
            entry[field] = content[start:stop].decode(errors="replace")
        elif field in HELD[kind]:
            yield from locations(content, start, stop, HELD[kind][field])
    if entry.get(KEY) == LOCATION:
        yield entry.get(VALUE, "")


def fields_of(content: mmap.mmap, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of each field of a message that has a length; others are passed over.

    Raises:
        ValueError: it is no message.
    """
    while place < end:
        key, place = varint(content, place, end)
        number, kind = key >> 3, key & 7
        length = FIXED.get(kind, 0)
        if key >= KEYS:
            raise ValueError("the graph is damaged")
        if kind in (VARINT, LENGTH):
            value, place = varint(content, place, end)
            length = value if kind == LENGTH else 0
        elif kind not in FIXED:
            raise ValueError("the graph is damaged")
        if place + length > end:
            raise ValueError("the graph is damaged")
        if kind == LENGTH:
            yield number, place, place + length
        place += length


def varint(content: mmap.mmap, place: int, end: int) -> tuple[int, int]:
    """A number of variable length, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            break
        byte = content[place]
        value, place = value | (byte & 0x7F) << shift, place + 1
        if byte < 0x80:
            return value, place
    raise ValueError("the graph is damaged")
