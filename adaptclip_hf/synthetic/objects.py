"""Objects on a ground: each function draws the parameters of a category and returns the renderer of its instances.

A renderer takes (rng, size) and returns the image (S, S, 3) and the foreground (S, S), where defects may appear.
"""

from collections.abc import Callable

import numpy as np

from .fields import coordinates, fractal, noise, step
from .materials import MATERIALS, colour, mix, shade

ObjectRenderer = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
SURFACES = ("plastic", "brushed metal", "cast metal", "wood", "stone", "foam", "paper", "granules", "leather")


def surface(rng: np.random.Generator):
    return MATERIALS[rng.choice(SURFACES)](rng)


def ground(rng: np.random.Generator):
    """A plain ground, sometimes a textured one."""
    if rng.random() < 0.3:
        return surface(rng)
    base = colour(rng, 0.3, 0.02, 0.98)
    return lambda rng, size: shade(np.broadcast_to(base, (size, size, 3)), noise(rng, size, 2), 0.02)


def pose(rng: np.random.Generator, size: int, turn: float, shift: float = 0.02, zoom: float = 0.03):
    """Coordinates about the object's centre, in image widths, with a small random pose."""
    x, y = coordinates(size)
    angle, scale = rng.uniform(-turn, turn), 1 + rng.uniform(-zoom, zoom)
    x, y = (x - 0.5 - rng.uniform(-shift, shift)) * scale, (y - 0.5 - rng.uniform(-shift, shift)) * scale
    return x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)


def vessel_mouth(rng: np.random.Generator) -> ObjectRenderer:
    """Concentric rings from above: bottles, cups, lids."""
    radii = np.sort(rng.uniform(0.12, 0.47, rng.integers(3, 8)))[::-1]
    tones = [colour(rng, 0.5, 0.02, 0.9) for _ in radii]
    back, gloss = ground(rng), rng.uniform(0.1, 0.6)
    arcs = [
        (rng.random() * 6.28, rng.uniform(0.2, 1.2), rng.choice(radii), rng.uniform(0.005, 0.02))
        for _ in range(rng.integers(0, 6))
    ]
    turn = rng.choice([0.1, 3.14])

    def render(rng, size):
        x, y = pose(rng, size, 0.05)
        spin = rng.uniform(-turn, turn)
        radius, angle = np.hypot(x, y), np.arctan2(y, x)
        image = back(rng, size)
        for r, tone in zip(radii, tones, strict=True):
            inside = step(radius - r, size)
            image = mix(image, shade(tone, 0.5 * noise(rng, size, 3) + np.cos(angle - 1), 0.12), inside)
        for start, length, r, width in arcs:
            on_arc = np.abs((angle - start - spin + 3 * np.pi) % (2 * np.pi) - np.pi) < length
            glint = np.exp(-(((radius - r * 0.95) / width) ** 2)) * on_arc
            image = image + gloss * glint[..., None]
        return image, radius < radii[0]

    return render


def washer(rng: np.random.Generator) -> ObjectRenderer:
    """Rings, nuts and gears: a plate with a hole and perhaps corners or teeth."""
    outer, inner = rng.uniform(0.3, 0.46), rng.uniform(0.08, 0.22)
    corners, depth = rng.choice([0, 0, 4, 6, 8, 12, 20]), rng.uniform(0.02, 0.08)
    plate, back, turn = surface(rng), ground(rng), rng.choice([0.05, 3.14])

    def render(rng, size):
        x, y = pose(rng, size, turn)
        radius, angle = np.hypot(x, y), np.arctan2(y, x)
        edge = outer - depth * (np.cos(angle * corners) * 0.5 + 0.5) * (corners > 0)
        body = step(radius - edge, size) * step(inner - radius, size)
        bevel = np.exp(-(((radius - edge) / 0.015) ** 2)) + np.exp(-(((radius - inner) / 0.015) ** 2))
        image = shade(plate(rng, size), bevel * np.cos(angle - 0.8), 0.35)
        return mix(back(rng, size), image, body), body > 0.5

    return render


def tablet(rng: np.random.Generator) -> ObjectRenderer:
    """Pills, capsules and buttons: a domed disc or oval with a mark."""
    a, b = rng.uniform(0.25, 0.46, 2)
    body_surface, back = surface(rng), ground(rng)
    mark, spots = rng.integers(3), rng.choice([0, 0, 12, 40])
    spot_colour, turn = colour(rng, 0.8, 0.05, 0.7), rng.choice([0.1, 3.14])

    def render(rng, size):
        x, y = pose(rng, size, turn)
        radius = np.hypot(x / a, y / b)
        image = shade(body_surface(rng, size), 1 - radius**3, 0.2)
        if mark == 1:
            image = shade(image, -np.exp(-((x / 0.012) ** 2)), 0.4)
        elif mark == 2:
            image = shade(image, np.exp(-(((radius - 0.7) / 0.04) ** 2)), -0.25)
        for _ in range(spots):
            cx, cy, r = rng.uniform(-a, a), rng.uniform(-b, b), rng.uniform(0.008, 0.03)
            image = mix(image, spot_colour, step(np.hypot(x - cx, y - cy) - r, size) * 0.8)
        body = step((radius - 1) * min(a, b), size)
        return mix(back(rng, size), image, body), body > 0.5

    return render


def cookie(rng: np.random.Generator) -> ObjectRenderer:
    """An uneven disc or oval with a rough surface, chips and fissures at random."""
    width, crumb = rng.uniform(0.28, 0.46), colour(rng, 0.9, 0.45, 0.85)
    oval, shift, fissures = rng.uniform(0, 0.35), rng.choice([0.02, 0.06]), rng.choice([0, rng.uniform(0.2, 0.6)])
    chips, chip = rng.integers(0, 45), colour(rng, 0.8, 0.05, 0.5)
    back, rough, lumps = ground(rng), rng.uniform(0.05, 0.2), rng.uniform(0.005, 0.025)

    def render(rng, size):
        x, y = pose(rng, size, 3.14, shift)
        y = y * (1 + rng.uniform(0, oval))
        radius, angle = np.hypot(x, y), np.arctan2(y, x)
        wobble = sum(rng.normal() * np.cos(n * angle + rng.random() * 6.3) / n for n in (2, 3, 5, 7))
        edge = radius - width - lumps * wobble
        dome = np.sqrt(np.clip(1 - (radius / width) ** 2, 0, 1))
        image = shade(shade(crumb, fractal(rng, size, 14, 4, 0.8), rough), dome - 0.7, 0.3)
        ridge = np.abs(fractal(rng, size, 5, 3)) + np.clip(noise(rng, size, 4), 0, 1)
        image = shade(image, -np.clip(1 - 8 * ridge, 0, 1), fissures)
        for _ in range(chips):
            cx, cy = rng.normal(0, width * 0.5, 2)
            tone = chip * rng.uniform(0.8, 1.2)
            distance = np.hypot((x - cx) * rng.uniform(0.7, 1.3), y - cy) - rng.uniform(0.008, 0.03)
            image = mix(image, tone, step(distance, size))
        body = step(edge, size)
        shadow = step(edge - 0.02 + 0.01 * x, size) * 0.35
        return mix(shade(back(rng, size), -shadow, 1.0), image, body), body > 0.5

    return render


def screw(rng: np.random.Generator) -> ObjectRenderer:
    """A rod with a head and a thread, at any angle."""
    metal, back = colour(rng, 0.25, 0.35, 0.8), ground(rng)
    radius, length, head = rng.uniform(0.03, 0.08), rng.uniform(0.3, 0.42), rng.uniform(1.5, 2.6)
    threads, depth, turn = rng.uniform(18, 45), rng.uniform(0.1, 0.3), rng.choice([0.1, 3.14])

    def render(rng, size):
        x, y = pose(rng, size, turn)
        thread = np.sin((x + 0.3 * y) * threads * 2 * np.pi)
        shaft = step(np.abs(y) - radius * (1 + depth * thread * (x < 0.5 * length)), size)
        shaft = shaft * step(np.abs(x) - length, size)
        cap = step(np.abs(y) - radius * head, size) * step(np.abs(x - length) - 0.05, size)
        round_light = np.sqrt(np.clip(1 - (y / (radius * 1.1)) ** 2, 0, 1))
        image = shade(metal, 0.6 * thread + round_light + 0.2 * noise(rng, size, 20), 0.3)
        body = np.maximum(shaft, cap)
        return mix(back(rng, size), image, body), body > 0.5

    return render


def board(rng: np.random.Generator) -> ObjectRenderer:
    """A circuit board or panel: parts, traces and holes at fixed positions."""
    base, seed = colour(rng, 0.9, 0.15, 0.6), rng.integers(1 << 30)
    parts, traces, grain = rng.integers(4, 25), rng.integers(0, 25), rng.uniform(0.01, 0.06)

    def render(rng, size):
        design = np.random.default_rng(seed)
        x, y = pose(rng, size, 0.03, shift=0.015)
        image = shade(np.broadcast_to(base, (size, size, 3)), fractal(rng, size, 30, 2), grain)
        for _ in range(traces):
            cx, cy, length = design.uniform(-0.5, 0.5, 3)
            across = design.random() < 0.5
            u, v = (x, y) if across else (y, x)
            line = step(np.abs(u - cx) - 0.004, size) * step(np.abs(v - cy) - abs(length), size)
            image = shade(image, line, 0.35)
        for _ in range(parts):
            cx, cy = design.uniform(-0.45, 0.45, 2)
            w, h = design.uniform(0.015, 0.11, 2)
            tone = colour(design, 0.6, 0.03, 0.9)
            if design.random() < 0.4:
                shape = step(np.hypot(x - cx, y - cy) - w * 0.6, size)
            else:
                shape = step(np.maximum(np.abs(x - cx) - w, np.abs(y - cy) - h), size)
            image = mix(image, shade(tone, noise(rng, size, 4), 0.04), shape)
        return image, np.ones((size, size), bool)

    return render


def segments(rng: np.random.Generator) -> ObjectRenderer:
    """Parallel plates with dark gaps between: commutators, heat sinks, keys."""
    plate, gap = surface(rng), colour(rng, 0.3, 0.02, 0.25)
    count, width, curved, along = rng.uniform(1.5, 9), rng.uniform(0.03, 0.15), rng.uniform(0, 0.5), rng.random() < 0.5

    def render(rng, size):
        x, y = pose(rng, size, 0.03)
        u = (x if along else y) * count + rng.normal(0, 0.05)
        near = np.abs((u % 1) - 0.5)
        image = shade(plate(rng, size), curved * np.cos((y if along else x) * 2.5), 0.6)
        gaps = np.clip((near - 0.5 + width) * size / count, 0, 1)
        return mix(image, gap, gaps), np.ones((size, size), bool)

    return render


def bundle(rng: np.random.Generator) -> ObjectRenderer:
    """Several discs in a sheath: cables, sockets, lattices of holes."""
    count, ring = rng.integers(2, 8), rng.uniform(0.15, 0.3)
    tones, sheath, back = [colour(rng, 0.9) for _ in range(count)], colour(rng), ground(rng)
    inner, outer = rng.uniform(0.06, 0.15), rng.uniform(0.4, 0.47)
    copper = np.array([0.7, 0.5, 0.35], np.float32)

    def render(rng, size):
        x, y = pose(rng, size, 0.1)
        body = step(np.hypot(x, y) - outer, size)
        image = mix(back(rng, size), shade(sheath, noise(rng, size, 12), 0.05), body)
        for index, tone in enumerate(tones):
            angle = 2 * np.pi * index / count
            radius = np.hypot(x - ring * np.cos(angle), y - ring * np.sin(angle))
            image = mix(image, tone, step(radius - inner, size))
            strands = np.clip(noise(rng, size, 40), -1, 1)
            image = mix(image, shade(copper, strands, 0.3), step(radius - inner * 0.6, size))
        return image, body > 0.5

    return render


def figure(rng: np.random.Generator) -> ObjectRenderer:
    """A part of overlapping simple solids: toys, castings, connectors."""
    back, seed, pieces, turn = ground(rng), rng.integers(1 << 30), rng.integers(2, 7), rng.choice([0.08, 0.4])
    surfaces = [surface(rng) for _ in range(2)]

    def render(rng, size):
        design = np.random.default_rng(seed)
        x, y = pose(rng, size, turn)
        image, body = back(rng, size), np.zeros((size, size), np.float32)
        skins = [each(rng, size) for each in surfaces]
        for index in range(pieces):
            cx, cy = design.uniform(-0.2, 0.2, 2)
            w, h = design.uniform(0.06, 0.25, 2)
            if design.random() < 0.5:
                distance = (np.hypot((x - cx) / w, (y - cy) / h) - 1) * min(w, h)
            else:
                distance = np.maximum(np.abs(x - cx) - w, np.abs(y - cy) - h)
            shape = step(distance, size)
            light = np.clip(-distance / min(w, h), 0, 1)
            image = mix(image, shade(skins[index % 2] * design.uniform(0.6, 1.2), light - 0.5, 0.3), shape)
            body = np.maximum(body, shape)
        return image, body > 0.5

    return render


OBJECTS: dict[str, Callable[[np.random.Generator], ObjectRenderer]] = {
    "bottle": vessel_mouth,
    "metal ring": washer,
    "tablet": tablet,
    "cookie": cookie,
    "screw": screw,
    "circuit board": board,
    "commutator": segments,
    "cable": bundle,
    "toy": figure,
}
