"""Defects: each function changes an image within the foreground and returns the image and its exact mask.

All take (rng, image (S, S, 3) float32, foreground (S, S) bool) and return (image, mask (S, S) bool).
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from .fields import blur, cells, coordinates, fractal, noise, warp
from .materials import MATERIALS, colour, mix

Defect = Callable[[np.random.Generator, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def random_point(rng: np.random.Generator, foreground: np.ndarray) -> tuple[float, float]:
    """A random foreground pixel as (x, y) in [0, 1]."""
    rows, columns = np.nonzero(foreground)
    index = rng.integers(len(rows))
    return columns[index] / len(foreground), rows[index] / len(foreground)


def turned(size: int, centre: tuple[float, float], angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along and across a direction, from a point (x, y) in [0, 1]."""
    x, y = coordinates(size)
    x, y = x - centre[0], y - centre[1]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def blob(rng: np.random.Generator, foreground: np.ndarray, low: float, high: float) -> np.ndarray:
    """Soft weight of an uneven patch at a random point, its radius in image widths."""
    size = len(foreground)
    centre = random_point(rng, foreground)
    angle, ratio, radius = rng.random() * 3.14, rng.uniform(0.5, 1.0), np.exp(rng.uniform(np.log(low), np.log(high)))
    along, across = turned(size, centre, angle)
    uneven = rng.uniform(0.05, 0.35) * noise(rng, size, min(size / 4, 1.5 / radius))
    distance = np.hypot(along, across / ratio) / radius + uneven
    return np.clip((1 - distance) * radius * size * rng.uniform(0.15, 1), 0, 1)


def path(
    rng: np.random.Generator, foreground: np.ndarray, length: float, wander: float, branches: int
) -> list[np.ndarray]:
    """Random walks (n, 2) in [0, 1] that start at a foreground pixel."""
    lines, start, heading = [], np.array(random_point(rng, foreground)), rng.random() * 6.28
    for _ in range(1 + branches):
        steps = max(4, int(length * 60))
        headings = heading + np.cumsum(rng.normal(0, wander, steps))
        walk = start + np.cumsum(np.stack([np.cos(headings), np.sin(headings)], 1) * length / steps, 0)
        lines.append(walk)
        start, heading = walk[rng.integers(len(walk))], heading + rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        length *= 0.6
    return lines


def stroke(lines: list[np.ndarray], size: int, width: float) -> np.ndarray:
    """Anti-aliased lines as weights, the width in pixels."""
    canvas = Image.new("L", (2 * size, 2 * size))
    draw = ImageDraw.Draw(canvas)
    for line in lines:
        draw.line([tuple(point) for point in line * 2 * size], fill=255, width=max(1, round(2 * width)))
    return np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def contrasting(rng: np.random.Generator, image: np.ndarray, weight: np.ndarray, least: float = 0.22) -> np.ndarray:
    """A colour that stands out from what lies under the weight."""
    under = (image * weight[..., None]).sum((0, 1)) / max(weight.sum(), 1e-3)
    best = under
    for _ in range(8):
        best = colour(rng, 0.9, 0.02, 1.0)
        if np.abs(best - under).max() > least:
            break
    return best


def border_colour(image: np.ndarray) -> np.ndarray:
    """The mean along the image's border, where the ground of an object shows."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).mean(0)


def scratch(rng, image, foreground):
    width = rng.uniform(0.7, 2.5) * len(image) / 224
    weight = stroke(path(rng, foreground, rng.uniform(0.08, 0.6), 0.04, 0), len(image), width) * foreground
    tone = np.float32(rng.choice([0.05, 0.95]))
    under = image[weight > 0.3]
    tone = tone if len(under) and abs(tone - under.mean()) > 0.25 else 1 - tone
    return mix(image, tone, weight * rng.uniform(0.45, 0.95)), weight > 0.2


def crack(rng, image, foreground):
    width = rng.uniform(0.8, 3.5) * len(image) / 224
    lines = path(rng, foreground, rng.uniform(0.15, 0.7), 0.35, rng.integers(0, 4))
    weight = stroke(lines, len(image), width) * foreground
    dark = image * rng.uniform(0.05, 0.5)
    return mix(image, dark, weight), weight > 0.2


def hole(rng, image, foreground):
    weight = blob(rng, foreground, 0.015, 0.09) * foreground
    inside = colour(rng, 0.3, 0.0, 0.2) if rng.random() < 0.8 else contrasting(rng, image, weight)
    rim = np.clip(blur(weight, 4) - weight, 0, 1)
    return mix(image * (1 + rng.uniform(-0.5, 0.8) * rim[..., None]), inside, weight), weight > 0.3


def dent(rng, image, foreground):
    weight = blur(blob(rng, foreground, 0.03, 0.14), len(image) / 40)
    down, right = np.gradient(weight * len(image) / 12)
    angle, strength = rng.random() * 6.28, rng.uniform(0.5, 1.2)
    light = strength * (down * np.sin(angle) + right * np.cos(angle))
    image = image * (1 + np.clip(light, -0.6, 0.8)[..., None])
    return image, (np.abs(light) > 0.06) & foreground


def stain(rng, image, foreground):
    weight = blob(rng, foreground, 0.03, 0.18) * foreground * rng.uniform(0.4, 0.95)
    return mix(image, contrasting(rng, image, weight) * (0.5 + image), weight), weight > 0.15


def missing_piece(rng, image, foreground):
    weight = blob(rng, foreground, 0.05, 0.2)
    fill = border_colour(image) if not foreground.all() else contrasting(rng, image, weight)
    fill = np.broadcast_to(fill, image.shape) * (1 + 0.03 * noise(rng, len(image), 20)[..., None])
    return mix(image, fill, weight * foreground), (weight > 0.3) & foreground


def chip(rng, image, foreground):
    """Broken edges: a cluster of flat shards, bright or dark as they face the light."""
    size = len(image)
    weight = np.clip(8 * blob(rng, foreground, 0.04, 0.13), 0, 1) * foreground
    first, second = cells(rng, size, rng.uniform(8, 30), 1.0)
    facets = np.clip(2.5 * noise(rng, size, rng.uniform(8, 30)), -1.5, 1.5).round()
    light = facets * rng.uniform(0.3, 1.0) + 0.5 * (second - first < 0.15)
    inside = np.clip(image * (1 + light[..., None]) + 0.15 * light[..., None], 0, 1)
    return mix(image, inside, weight), weight > 0.3


def broken(rng, image, foreground):
    """The image is split along an uneven line, and what lies beneath shows in the gap."""
    size = len(image)
    centre = random_point(rng, foreground)
    angle, reach = rng.random() * 6.28, rng.uniform(0.1, 0.5)
    along, across = turned(size, centre, angle)
    across = across + 0.03 * fractal(rng, size, 4, 4)
    gap = rng.uniform(0.012, 0.07) * np.clip(2 - 2 * np.abs(along) / reach, 0, 1)
    weight = np.clip(0.5 + (gap / 2 - np.abs(across)) * size, 0, 1) * foreground * (gap * size > 1)
    beneath = border_colour(image) if not foreground.all() else image.mean((0, 1)) * rng.uniform(0.1, 0.4)
    rim = np.clip(blur(weight, 4) - weight, 0, 1)[..., None]
    return mix(image * (1 + rng.uniform(-0.5, 0.6) * rim), beneath, weight), weight > 0.3


def foreign_body(rng, image, foreground):
    size = len(image)
    if rng.random() < 0.4:
        weight = stroke(path(rng, foreground, rng.uniform(0.08, 0.35), 0.2, 0), size, rng.uniform(1, 3) * size / 224)
        return mix(image, contrasting(rng, image, weight), weight), weight > 0.2
    weight = blob(rng, foreground, 0.02, 0.1)
    other = MATERIALS[rng.choice(list(MATERIALS))](rng)(rng, size)
    shift = contrasting(rng, image, weight) - (other * weight[..., None]).sum((0, 1)) / max(weight.sum(), 1)
    return mix(image, np.clip(other + shift, 0, 1), weight), weight > 0.3


def fold(rng, image, foreground):
    size = len(image)
    centre = random_point(rng, foreground)
    angle, length = rng.random() * 3.14, rng.uniform(0.1, 0.4)
    along, across = turned(size, centre, angle)
    across = -across + 0.01 * noise(rng, size, 4)
    width, window = rng.uniform(0.01, 0.03), np.clip((length - np.abs(along)) * 15, 0, 1)
    light = across / width * np.exp(-((across / width) ** 2)) * window * rng.uniform(0.7, 1.5)
    image = warp(image, 4 * light, 4 * light)
    return image * (1 + np.clip(light, -0.7, 0.8)[..., None]), (np.abs(light) > 0.12) & foreground


def distortion(rng, image, foreground):
    """Frays, pulled threads, melted print: the surface itself is displaced."""
    size = len(image)
    weight = blur(blob(rng, foreground, 0.05, 0.15), size / 60)
    strength = rng.uniform(8, 20) * size / 224
    moved = warp(image, *(strength * weight * noise(rng, size, rng.uniform(6, 14)) for _ in range(2)))
    change = blur(np.abs(moved - image).max(-1), size / 60)
    return moved, (change > 0.25 * change.max()) & foreground


def discoloration(rng, image, foreground):
    weight = blur(blob(rng, foreground, 0.08, 0.25), len(image) / 30) * foreground
    factor = 1 + rng.choice([-1, 1]) * rng.uniform(0.25, 0.5) * rng.uniform(0.2, 1, 3).astype(np.float32)
    return mix(image, np.clip(image * factor, 0, 1), weight), weight > 0.35


def misplaced(rng, image, foreground):
    """A piece of the same image where it does not belong, turned: misprints, swapped parts, wrong weave."""
    weight = blob(rng, foreground, 0.05, 0.16) * foreground
    other = np.rot90(image, rng.integers(1, 4)) if rng.random() < 0.5 else image[::-1]
    shift = rng.integers(-len(image) // 3, len(image) // 3, 2)
    other = np.roll(other, shift, (0, 1)) * np.float32(rng.uniform(0.75, 1.2))
    return mix(image, other, weight), (weight > 0.3) & (np.abs(other - image).max(-1) > 0.03)


def contamination(rng, image, foreground):
    """Specks of dust, drops or pores in a cluster."""
    size = len(image)
    area = blur(blob(rng, foreground, 0.06, 0.18), size / 30)
    specks = np.clip(fractal(rng, size, size / rng.uniform(4, 10), 2) * 2 - rng.uniform(0.8, 1.8), 0, 1)
    specks = specks * area * foreground
    return mix(image, contrasting(rng, image, specks, 0.3), np.clip(specks * 1.5, 0, 1)), specks > 0.2


DEFECTS: dict[str, Defect] = {
    "scratch": scratch,
    "crack": crack,
    "hole": hole,
    "dent": dent,
    "stain": stain,
    "missing piece": missing_piece,
    "chip": chip,
    "broken part": broken,
    "foreign body": foreign_body,
    "fold": fold,
    "distortion": distortion,
    "discoloration": discoloration,
    "misprint": misplaced,
    "contamination": contamination,
}
LEAST_CHANGE = 0.05
LEAST_AREA = 2e-4


def add_defect(
    rng: np.random.Generator, image: np.ndarray, foreground: np.ndarray, kind: str | None = None, strength: float = 1.0
) -> tuple[np.ndarray, np.ndarray, str]:
    """The image with one visible defect, its mask, and its kind; a strength below 1 makes it fainter.

    A defect that changes the image too little is drawn anew.
    """
    for _ in range(20):
        name = kind or str(rng.choice(list(DEFECTS)))
        changed, mask = DEFECTS[name](rng, image, foreground)
        changed = np.clip(image + strength * (changed - image), 0, 1).astype(np.float32)
        difference = np.abs(changed - np.clip(image, 0, 1)).max(-1)
        if mask.mean() > LEAST_AREA and difference[mask].mean() > LEAST_CHANGE:
            return changed, mask, name
    return add_defect(rng, image, foreground, "stain" if kind != "stain" else "hole")
