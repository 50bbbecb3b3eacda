"""Scalar fields on a square: noise, cells and distances, float32 (S, S)."""

import numpy as np
from PIL import Image


def coordinates(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of each pixel's centre in [0, 1]."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    return np.broadcast_to(axis, (size, size)), np.broadcast_to(axis[:, None], (size, size))


def stretch(grid: np.ndarray, size: int) -> np.ndarray:
    """A small grid enlarged bicubically."""
    return np.asarray(Image.fromarray(grid.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))


def noise(rng: np.random.Generator, size: int, cells_x: float, cells_y: float | None = None) -> np.ndarray:
    """Smooth noise of about unit variance with so many cells across and down."""
    cells_y = cells_x if cells_y is None else cells_y
    shape = (min(size, max(2, round(cells_y)) + 1), min(size, max(2, round(cells_x)) + 1))
    return stretch(rng.standard_normal(shape), size)


def fractal(rng: np.random.Generator, size: int, cells: float, octaves: int = 4, gain: float = 0.5) -> np.ndarray:
    """Octaves of smooth noise, each twice as fine and `gain` as strong."""
    total = sum(gain**octave * noise(rng, size, cells * 2**octave) for octave in range(octaves))
    return (total / sum(gain ** (2 * octave) for octave in range(octaves)) ** 0.5).astype(np.float32)


def cells(rng: np.random.Generator, size: int, count: float, jitter: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the nearest and second nearest of scattered points, in cell widths."""
    count = max(2, round(count))
    x, y = coordinates(size)
    cell_x, cell_y = np.floor(x * count).astype(int), np.floor(y * count).astype(int)
    offset = (rng.random((2, count + 2, count + 2)).astype(np.float32) - 0.5) * jitter + 0.5
    first = np.full((size, size), 9, np.float32)
    second = first.copy()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            near = offset[:, cell_y + dy + 1, cell_x + dx + 1]
            distance = np.hypot(x * count - cell_x - dx - near[0], y * count - cell_y - dy - near[1])
            second = np.minimum(second, np.maximum(first, distance))
            first = np.minimum(first, distance)
    return first, second


def step(signed: np.ndarray, size: int) -> np.ndarray:
    """1 where a signed distance (in image widths) is negative, 0 where positive, over about a pixel."""
    return np.clip(0.5 - signed * size, 0, 1)


def warp(image: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The image (S, S, ...) read at displaced positions (in pixels), bilinearly, edges repeated."""
    size = len(image)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    x, y = np.clip(columns + dx, 0, size - 1.001), np.clip(rows + dy, 0, size - 1.001)
    x0, y0 = x.astype(int), y.astype(int)
    fx, fy = x - x0, y - y0
    if image.ndim == 3:
        fx, fy = fx[..., None], fy[..., None]
    top = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
    bottom = image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx
    return (top * (1 - fy) + bottom * fy).astype(np.float32)


def blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Gaussian blur of an image (S, S, 3) in [0, 1] or a field (S, S), by shrinking and enlarging for speed."""
    size = len(image)
    small = max(4, round(size / max(1.0, 1.5 * radius)))
    planes = [image] if image.ndim == 2 else list(np.moveaxis(image, -1, 0))
    done = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
            .resize((small, small), Image.Resampling.BOX)
            .resize((size, size), Image.Resampling.BICUBIC)
        )
        for plane in planes
    ]
    return done[0] if image.ndim == 2 else np.stack(done, -1)
