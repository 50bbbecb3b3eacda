"""Finds good photos that are one picture twice: at another size, saved again, with another light."""

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np
from PIL import Image

SIDE = 32  # pixels of the small grey picture by which photos are compared
NUMBERS = 128  # of a sketch
# copies differ by less than this share of what two photos usually differ by, and by less than this at all; measured on
# seven real sets and three procedural ones (docs/inspection.md)
SHARE, MOST = 0.02, 2e-3
ALL_ALIKE = 1e-4  # where photos usually differ by less, no two are more alike than the others
OTHER_SHAPE = 0.03  # of width by height, between photos that cannot be copies
# random signs that no version of any library changes
SIGNS = np.unpackbits(np.frombuffer(hashlib.shake_256(b"adaptclip").digest(NUMBERS * SIDE * SIDE // 8), np.uint8))
PROJECTION = (2.0 * SIGNS.reshape(NUMBERS, SIDE * SIDE) - 1) / np.sqrt(NUMBERS)


def sketch(image: Image.Image) -> bytes:
    """128 random projections of an image's small grey picture, without its brightness and contrast: 256 bytes.

    Squared distances of sketches are those of the pictures, within a few per cent (Johnson and Lindenstrauss 1984).
    """
    small = np.asarray(image.convert("L").convert("F").resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float64)
    centred = small.ravel() - small.mean()
    return (PROJECTION @ (centred / max(np.linalg.norm(centred), 1.0))).astype("<f2").tobytes()


def near_copies(
    sketches: Sequence[bytes], sizes: Sequence[tuple[int, int]], parts: Sequence[Hashable] | None = None
) -> dict[int, int]:
    """Which photos are a copy of another one: {number: number of the one that is kept, the largest}.

    Args:
        sketches: of the photos; empty ones are compared with nothing.
        sizes: (height, width) of each.
        parts: which part each shows; by default each another one. Views of one part are no copies of one another, and
            photos of a part are copies only if all of them are: what they usually differ by is the distance to the
            nearest photo of each other part, that is, most often, to the same view.
    """
    numbers = [number for number, each in enumerate(sketches) if len(each) == 2 * NUMBERS]
    if len(numbers) < 3:  # two photos do not tell how photos usually differ
        return {}
    points = np.stack([np.frombuffer(sketches[number], "<f2") for number in numbers]).astype(np.float64)
    squares = (points**2).sum(1)
    distances = np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)
    shown = range(len(sketches)) if parts is None else parts
    order: dict[Hashable, int] = {}
    part = np.array([order.setdefault(shown[number], len(order)) for number in numbers])
    if len(order) < 2:
        return {}
    between = [distances[np.ix_(part != other, part == other)].min(1) for other in range(len(order))]
    usual = float(np.median(np.concatenate(between)))
    if usual < ALL_ALIKE:
        return {}
    limit = min(SHARE * usual, MOST)
    shapes = np.log([sizes[number][1] / sizes[number][0] for number in numbers])
    alike = (distances < limit) & (np.abs(shapes[:, None] - shapes) < OTHER_SHAPE) & (part[:, None] != part)
    kept: list[int] = []
    copies: dict[int, int] = {}
    for index in sorted(range(len(numbers)), key=lambda index: -np.prod(sizes[numbers[index]])):
        if found := [each for each in kept if alike[index, each]]:
            copies[numbers[index]] = numbers[found[0]]
        else:
            kept.append(index)
    whole = {shown[number] for number in range(len(sketches)) if number not in copies}  # parts of which something stays
    return {number: copy_of for number, copy_of in copies.items() if shown[number] not in whole}
