"""Normal features that catch the eye: spots, veins, streaks, glints and dark borders that belong to a product.

A trait takes (rng, scene (S, S, 3), foreground (S, S)) and returns the scene; every instance of the category has it,
elsewhere. Without traits everything dark, thin or bright would look like a defect.
"""

from collections.abc import Callable

import numpy as np

from .defects import blob, path, stroke
from .fields import coordinates, noise
from .materials import colour, mix, shade

Trait = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]


def spots(rng: np.random.Generator) -> Trait:
    count, tone = rng.integers(3, 30), colour(rng, 0.6, 0.02, 0.5 if rng.random() < 0.7 else 0.95)
    low = rng.uniform(0.006, 0.02)
    high, strength = low * rng.uniform(1.2, 3), rng.uniform(0.4, 1)

    def add(rng, scene, foreground):
        weight = np.zeros(foreground.shape, np.float32)
        for _ in range(rng.integers(count // 2, count + 1)):
            weight = np.maximum(weight, blob(rng, foreground, low, high))
        return mix(scene, tone, strength * weight * foreground)

    return add


def veins(rng: np.random.Generator) -> Trait:
    count, length, wander = rng.integers(1, 7), rng.uniform(0.1, 0.5), rng.choice([0.05, 0.3])
    width, factor = rng.uniform(0.7, 3), rng.choice([rng.uniform(0.2, 0.7), rng.uniform(1.2, 1.6)])

    def add(rng, scene, foreground):
        lines = [line for _ in range(rng.integers(1, count + 1)) for line in path(rng, foreground, length, wander, 0)]
        return mix(scene, scene * factor, stroke(lines, len(scene), width * len(scene) / 224) * foreground)

    return add


def streaks(rng: np.random.Generator) -> Trait:
    fine, strength, along = rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.3), rng.random() < 0.5

    def add(rng, scene, foreground):
        size = len(scene)
        lines = noise(rng, size, size * fine, 2) * np.clip(noise(rng, size, 4, 2), 0, 2)
        return shade(scene, (lines if along else lines.T) * foreground, strength)

    return add


def glints(rng: np.random.Generator) -> Trait:
    count, width, strength = rng.integers(1, 6), rng.uniform(0.004, 0.02), rng.uniform(0.2, 0.7)

    def add(rng, scene, foreground):
        weight = np.zeros(foreground.shape, np.float32)
        for _ in range(rng.integers(1, count + 1)):
            weight = np.maximum(weight, blob(rng, foreground, width, 2 * width))
        return scene + strength * (weight * foreground)[..., None]

    return add


def border(rng: np.random.Generator) -> Trait:
    width, tone = rng.uniform(0.01, 0.06), colour(rng, 0.2, 0.02, 0.3 if rng.random() < 0.7 else 0.95)

    def add(rng, scene, foreground):
        x, y = coordinates(len(scene))
        sides = np.stack([x, 1 - x, y, 1 - y]) + 0.003 * noise(rng, len(scene), 8)
        sides = sides - width * rng.uniform(0, 1.5, 4)[:, None, None]
        return mix(scene, tone, np.clip(0.5 - sides.min(0) * len(scene) / 3, 0, 1).astype(np.float32))

    return add


TRAITS: dict[str, Callable[[np.random.Generator], Trait]] = {
    "spots": spots,
    "veins": veins,
    "streaks": streaks,
    "glints": glints,
    "border": border,
}
