"""How many parts an image file has, before Pillow opens it: some kinds of them take minutes or gigabytes in few bytes.

Python and nothing else: an export has a copy of this file.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

MOST_PARTS = 100_000  # chunks of a PNG, tags and strips of a TIFF
MOST_SEGMENTS = 10_000  # of a JPEG before its pixels; each holds up to 64 KB
MOST_BLOCKS = 2_000_000  # of a GIF; each holds up to 255 bytes
MOST_COMMENTS = 4096  # blocks, which Pillow joins one by one
MOST_PAGES = 1000
LARGEST_TILE = 4096  # pixels of a side, where the image is smaller
PNG, TIFFS, GIFS, JPEG = (
    b"\x89PNG\r\n\x1a\n",
    (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    (b"GIF87a", b"GIF89a"),
    b"\xff\xd8",
)
WIDTH, HEIGHT, STRIPS, TILE_WIDTH, TILE_HEIGHT = 256, 257, 273, 322, 323
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
BYTES = (1, 2, 6, 7)  # types of TIFF whose values Pillow leaves as they are


def excess(opened: BinaryIO) -> str | None:
    """What a file has too much of; `None` where nothing is.

    Args:
        opened: a file in binary, whose position changes.
    """
    opened.seek(0)
    start = opened.read(8)
    opened.seek(0)
    try:
        if start == PNG:
            return counted(chunks_of_png(opened), MOST_PARTS, "chunks")
        if start[:2] == JPEG:
            return counted(segments_of_jpeg(opened), MOST_SEGMENTS, "segments before its pixels")
        if start[:6] in GIFS:
            return excess_of_gif(opened)
        if start[:4] in TIFFS:
            return excess_of_tiff(opened)
    except (struct.error, IndexError, ValueError, OverflowError):  # cut off or no such file: its decoder says so
        pass
    return None


def counted(parts: Iterator, most: int, name: str) -> str | None:
    return f"more than {most} {name}" if any(number > most for number, _ in enumerate(parts, start=1)) else None


def chunks_of_png(opened: BinaryIO) -> Iterator[int]:
    opened.seek(8)
    while len(head := opened.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":  # what follows is no part of the picture
            return
        yield length
        opened.seek(length + 4, 1)


def segments_of_jpeg(opened: BinaryIO) -> Iterator[int]:
    opened.seek(2)
    while len(head := opened.read(4)) == 4 and head[0] == 0xFF and head[1] not in (0xDA, 0xD9):
        if head[1] == 0xFF:  # filling before a marker
            yield 0
            opened.seek(-3, 1)
            continue
        length = struct.unpack(">H", head[2:])[0]
        yield length
        opened.seek(max(length - 2, 0), 1)


def excess_of_gif(opened: BinaryIO) -> str | None:
    content = memoryview(opened.read())
    place = 13 + table_size(content[10])
    blocks = comments = 0
    while place < len(content) and (kind := content[place]) in (0x21, 0x2C):
        is_comment = kind == 0x21 and content[place + 1] == 0xFE
        place += 2 if kind == 0x21 else 11 + table_size(content[place + 9])
        while length := content[place]:
            blocks, comments, place = blocks + 1, comments + is_comment, place + length + 1
            if comments > MOST_COMMENTS:
                return f"more than {MOST_COMMENTS} blocks of comments"
            if blocks > MOST_BLOCKS:
                return f"more than {MOST_BLOCKS} blocks"
        place += 1
    return None


def table_size(flags: int) -> int:
    """Bytes of a colour table of a GIF."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def excess_of_tiff(opened: BinaryIO) -> str | None:
    order = "<" if opened.read(2) == b"II" else ">"
    is_big = struct.unpack(f"{order}H", opened.read(2))[0] == 43
    number, count = (f"{order}Q", f"{order}HHQ") if is_big else (f"{order}I", f"{order}HHI")
    opened.seek(8 if is_big else 4)
    place, pages = struct.unpack(number, opened.read(8 if is_big else 4))[0], 0
    while place:
        pages += 1
        if pages > MOST_PAGES:
            return f"more than {MOST_PAGES} pages"
        opened.seek(place)
        head = f"{order}{'Q' if is_big else 'H'}"
        entries = struct.unpack(head, opened.read(struct.calcsize(head)))[0]
        if entries > MOST_PARTS:
            return f"more than {MOST_PARTS} tags"
        values: dict[int, int] = {}
        for _ in range(entries):
            tag, kind, amount = struct.unpack(count, opened.read(struct.calcsize(count)))
            value = opened.read(8 if is_big else 4)
            if amount > MOST_PARTS and kind not in BYTES:
                return f"more than {MOST_PARTS} values of its tag {tag}"
            if amount == 1 and kind in (3, 4, 16):
                size = SIZES[kind]
                values[tag] = int.from_bytes(value[:size], "little" if order == "<" else "big")
        for side, tile in ((WIDTH, TILE_WIDTH), (HEIGHT, TILE_HEIGHT)):
            if values.get(tile, 0) > max(LARGEST_TILE, 2 * values.get(side, 0)):
                return f"tiles of {values[tile]} pixels for an image of {values.get(side, 0)}"
        place = struct.unpack(number, opened.read(8 if is_big else 4))[0]
    return None
