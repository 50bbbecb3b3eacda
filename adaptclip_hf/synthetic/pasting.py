"""Defects of a size that is asked for, put on a photo: of a few kinds, clear or faint."""

from collections.abc import Callable

import numpy as np

from .fields import noise
from .materials import MATERIALS, colour, mix

# in lengths of the defect, about its middle: (rng, along (n, n), across (n, n), thinnest) -> weight (n, n) in [0, 1]
Shape = Callable[[np.random.Generator, np.ndarray, np.ndarray, float], np.ndarray]

CONTRASTS = {"clear": 0.4, "faint": 0.12}  # the difference to what lies beneath, of the range from black to white
FINE = 3  # points along each side of a pixel at which a shape is drawn
THINNEST = 0.003  # of the photo's side: a thinner line is no line to any camera
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
    "scratch": line,
    "hole": patch,
    "stain": soft_patch,
    "foreign body": patch,
    "misplaced piece": patch,
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
    contrast = CONTRASTS[strength]
    if kind == "misplaced piece":
        return mix(image, far_piece(rng, image, weight, other), weight * min(1.0, 2.5 * contrast)).astype(np.float32)
    under = mean_under(image, weight)
    if kind == "stain":
        return np.clip(image + weight[..., None] * away(rng, image, under, contrast), 0, 1).astype(np.float32)
    inside = under + (dark_or_light(under, contrast) if kind != "foreign body" else away(rng, image, under, contrast))
    if kind == "foreign body":
        inside = inside + grain(rng, len(image), contrast)
    return np.clip(mix(image, np.broadcast_to(inside, image.shape), weight), 0, 1).astype(np.float32)


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


def mean_under(image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The mean colour (3,) of what lies beneath a weight."""
    return (image * weight[..., None]).sum((0, 1)) / max(float(weight.sum()), 1e-6)


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


def grain(rng: np.random.Generator, size: int, contrast: float) -> np.ndarray:
    """The unevenness (S, S, 1) of another material."""
    material = MATERIALS[str(rng.choice(list(MATERIALS)))](rng)(rng, 64).mean(-1)
    repeated = np.tile(material - material.mean(), (size // 64 + 1, size // 64 + 1))[:size, :size]
    return (np.clip(repeated, -contrast, contrast) / 2 + 0.1 * contrast * noise(rng, size, size / 2))[..., None]


def far_piece(rng: np.random.Generator, image: np.ndarray, weight: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Another photo, turned and moved so that what comes to lie there differs most; of a few draws."""
    best, most = other, -1.0
    for _ in range(4):
        moved = np.roll(np.rot90(other, rng.integers(4)), rng.integers(0, len(image), 2), (0, 1))
        difference = float((np.abs(moved - image).max(-1) * weight).sum())
        if difference > most:
            best, most = moved, difference
    return best


def part_of(image: np.ndarray) -> np.ndarray:
    """Where the part lies (S, S), where that can be told: before a plain background that shows along the border.

    Everywhere, where the border is not plain, or nearly all or nothing differs from it.
    """
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    ground = np.median(border, axis=0)
    spread = float(np.median(np.abs(border - ground).max(-1)))
    if spread > LEVEL:
        return np.ones(image.shape[:2], bool)
    part = np.abs(image - ground).max(-1) > max(DISTINCT, 3 * spread)
    share = float(part.mean())
    return part if 0.05 < share < 0.9 else np.ones_like(part)
