"""Defects of a size that is asked for, put on a photo: of a few kinds, clear or faint."""

from collections.abc import Callable

import numpy as np

from .fields import coordinates
from .materials import MATERIALS, colour, mix
from .pasted_kinds import CONTRASTS, FOREIGN_BODY, HOLE, MISPLACED_PIECE, SCRATCH, STAIN

# in lengths of the defect, about its middle: (rng, along (n, n), across (n, n), thinnest) -> weight (n, n) in [0, 1]
Shape = Callable[[np.random.Generator, np.ndarray, np.ndarray, float], np.ndarray]

FINE = 3  # points along each side of a pixel at which a shape is drawn
THINNEST = 0.003  # of the photo's side: a thinner line is no line to any camera
PIECES = 4  # drawn for one that differs from what lies there
PLACES = 10  # drawn for one that lies on the part
ON_THE_PART = 0.8  # of a defect's area, at least
LEVEL = 0.05  # how much a plain background may vary
DISTINCT = 0.1  # how much a part differs from it


def line(rng: np.random.Generator, along: np.ndarray, across: np.ndarray, thinnest: float) -> np.ndarray:
    """A slightly bent line of length one."""
    width = max(0.05, thinnest)
    bent = across - rng.uniform(-0.25, 0.25) * (along**2 - 0.1)
    return ((np.abs(bent) < width / 2) & (np.abs(along) < 0.5)).astype(np.float32)


def patch(rng: np.random.Generator, along: np.ndarray, across: np.ndarray, thinnest: float) -> np.ndarray:
    """An uneven patch whose longest diameter is about one."""
    ratio, phases, waves = rng.uniform(0.6, 1.0), rng.random(2) * 6.28, rng.uniform(0, 0.12, 2)
    angle = np.arctan2(across, along)
    radius = 0.42 * (1 + waves[0] * np.sin(2 * angle + phases[0]) + waves[1] * np.sin(3 * angle + phases[1]))
    return (np.hypot(along, across / ratio) < radius).astype(np.float32)


def soft_patch(rng: np.random.Generator, along: np.ndarray, across: np.ndarray, thinnest: float) -> np.ndarray:
    """A patch that fades out at its edge."""
    ratio = rng.uniform(0.6, 1.0)
    return np.clip(2 - 4 * np.hypot(along, across / ratio), 0, 1).astype(np.float32)


KINDS: dict[str, Shape] = {
    SCRATCH: line,
    HOLE: patch,
    STAIN: soft_patch,
    FOREIGN_BODY: patch,
    MISPLACED_PIECE: patch,
}


def paste_defect(
    rng: np.random.Generator,
    image: np.ndarray,
    allowed: np.ndarray,
    kind: str,
    extent: tuple[float, float],
    strength: str,
    other: np.ndarray,
) -> np.ndarray:
    """A photo with one defect.

    Args:
        image: (S, S, 3) float32 in [0, 1].
        allowed: (S, S) booleans, true where the defect may lie.
        kind: one of `KINDS`.
        extent: the defect's length across and down, as shares of the image's two sides. They differ where a photo that
            is no square was squeezed into one.
        strength: "clear" or "faint".
        other: (S, S, 3), the photo that a misplaced piece is taken from; it may be the same one.
    """
    weight = placed(rng, KINDS[kind], allowed, extent)
    rows, columns = (np.flatnonzero(weight.any(axis)) for axis in (1, 0))
    if not len(rows):
        return image
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    changed = image.copy()
    changed[box] = np.clip(spoiled(rng, image[box], weight[box], kind, CONTRASTS[strength], other), 0, 1)
    return changed


def spoiled(
    rng: np.random.Generator, image: np.ndarray, weight: np.ndarray, kind: str, contrast: float, other: np.ndarray
) -> np.ndarray:
    """The part of a photo (h, w, 3) with a defect where the weight (h, w) is; see [`paste_defect`]."""
    if kind == "misplaced piece":
        return mix(image, far_piece(rng, image, weight, other), weight * min(1.0, 2.5 * contrast))
    under = (image * weight[..., None]).sum((0, 1)) / weight.sum()
    if kind == "stain":
        return image + weight[..., None] * away(rng, image, under, contrast)
    if kind == "foreign body":
        return mix(image, under + away(rng, image, under, contrast) + grain(rng, image.shape, contrast), weight)
    return mix(image, np.broadcast_to(under + dark_or_light(under, contrast), image.shape), weight)


def placed(rng: np.random.Generator, shape: Shape, allowed: np.ndarray, extent: tuple[float, float]) -> np.ndarray:
    """The weight (S, S) of a shape at a random place that is allowed; of several draws one that mostly lies there."""
    rows, columns = np.nonzero(allowed)
    best, most = np.zeros(allowed.shape, np.float32), -1.0
    for _ in range(PLACES):
        index = rng.integers(len(rows))
        weight = drawn(rng, shape, len(allowed), (columns[index], rows[index]), extent)
        share = float((weight * allowed).sum() / max(weight.sum(), 1e-6))
        if share > most:
            best, most = weight * allowed, share
        if share >= ON_THE_PART:
            break
    return best


def drawn(
    rng: np.random.Generator, shape: Shape, size: int, pixel: tuple[int, int], extent: tuple[float, float]
) -> np.ndarray:
    """The weight (S, S) of a shape about a pixel (column, row), turned at random."""
    angle, shift = rng.random() * 6.28, rng.random(2)
    spans = [
        slice(max(0, at - reach), min(size, at + reach + 1))
        for at, reach in zip(pixel, reaches(size, extent), strict=True)
    ]
    # how far each fine point is from the middle, in lengths of the defect
    x, y = (
        ((np.arange((span.stop - span.start) * FINE) + 0.5) / FINE + span.start - at - offset) / (length * size)
        for span, at, offset, length in zip(spans, pixel, shift, extent, strict=True)
    )
    along = x[None] * np.cos(angle) + y[:, None] * np.sin(angle)
    across = y[:, None] * np.cos(angle) - x[None] * np.sin(angle)
    fine = shape(rng, along, across, THINNEST / max(extent))
    height, width = (each // FINE for each in fine.shape)
    weight = np.zeros((size, size), np.float32)
    weight[spans[1], spans[0]] = fine.reshape(height, FINE, width, FINE).mean((1, 3))
    return weight


def reaches(size: int, extent: tuple[float, float]) -> list[int]:
    """How many pixels from its middle a shape may reach, across and down."""
    return [int(np.ceil(0.75 * length * size)) + 2 for length in extent]


def dark_or_light(under: np.ndarray, contrast: float) -> np.ndarray:
    """The step to a darker tone, or to a lighter one where it is dark."""
    return np.full(3, -contrast if under.mean() > contrast else contrast, np.float32)


def away(rng: np.random.Generator, image: np.ndarray, under: np.ndarray, contrast: float) -> np.ndarray:
    """The step to another colour; to another grey in a grey photo."""
    step = colour(rng, 0.9, 0.02, 1.0) - under
    if np.ptp(image, axis=-1).max() < 0.02:
        step = np.full(3, step.mean())
    step = contrast * step / max(np.abs(step).max(), 1e-6)
    inside = np.abs(np.clip(under + step, 0, 1) - under).max() > 0.8 * contrast
    return (step if inside else -step).astype(np.float32)


def grain(rng: np.random.Generator, shape: tuple[int, ...], contrast: float) -> np.ndarray:
    """The unevenness (h, w, 1) of another material."""
    height, width = shape[:2]
    material = MATERIALS[str(rng.choice(list(MATERIALS)))](rng)(rng, max(height, width, 16)).mean(-1)
    return np.clip(material - material.mean(), -contrast / 2, contrast / 2)[:height, :width, None]


def far_piece(rng: np.random.Generator, image: np.ndarray, weight: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The piece (h, w, 3) of another photo, turned, that differs most from what lies there; of a few draws."""
    height, width = weight.shape
    best, most = image, -1.0
    for _ in range(PIECES):
        turned = np.rot90(other, int(rng.integers(4)))
        top, left = rng.integers(len(other) - height + 1), rng.integers(len(other) - width + 1)
        piece = turned[top : top + height, left : left + width]
        difference = float((np.abs(piece - image).max(-1) * weight).sum())
        if difference > most:
            best, most = piece, difference
    return best


def part_of(image: np.ndarray) -> np.ndarray:
    """Where the part lies (S, S), where that can be told: before a plain background that shows along the border.

    Everywhere, where the border is not plain but for a change of light, or nearly all or nothing differs from it.
    """
    x, y = coordinates(len(image))
    places = np.stack([np.ones_like(x), x, y], -1)
    border = np.ones(x.shape, bool)
    border[1:-1, 1:-1] = False
    light = np.linalg.lstsq(places[border], image[border], rcond=None)[0]
    difference = np.abs(image - places @ light).max(-1)
    spread = float(np.median(difference[border]))
    part = difference > max(DISTINCT, 3 * spread)
    return part if spread < LEVEL and 0.05 < part.mean() < 0.9 else np.ones_like(part)
