"""Surfaces: each function draws the parameters of a category and returns the renderer of its instances.

A renderer takes (rng, size) and returns an image (S, S, 3), float32 about [0, 1], before light and camera.
"""

import colorsys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from .fields import cells, coordinates, fractal, noise, step, warp

Renderer = Callable[[np.random.Generator, int], np.ndarray]


def colour(rng: np.random.Generator, saturation: float = 0.5, low: float = 0.2, high: float = 0.85) -> np.ndarray:
    """A random colour, often grey, often brown."""
    hue = rng.uniform(0.02, 0.14) if rng.random() < 0.4 else rng.random()
    value = colorsys.hsv_to_rgb(hue, rng.random() ** 1.5 * saturation, rng.uniform(low, high))
    return np.array(value, np.float32)


def shade(base: np.ndarray, field: np.ndarray, amount: float) -> np.ndarray:
    """A colour made lighter and darker by a field."""
    return base * (1 + amount * field[..., None])


def rgb(value: np.ndarray) -> tuple[int, ...]:
    """A colour as Pillow takes it."""
    return tuple(int(255 * each) for each in value)


def mix(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return one * (1 - weight[..., None]) + other * weight[..., None]


def rotated(rng: np.random.Generator, size: int, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates turned by an angle, with a random offset: an instance's pose on an endless surface."""
    x, y = coordinates(size)
    x, y = x - 0.5, y - 0.5
    turned = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    return turned[0] + rng.random() * 10, turned[1] + rng.random() * 10


def small_turn(rng: np.random.Generator) -> float:
    return rng.normal(0, 0.04)


def woven(rng: np.random.Generator) -> Renderer:
    period, angle = rng.uniform(12, 50), rng.choice([0, 0.785, rng.random()])
    warp_colour, weft_colour, contrast = colour(rng), colour(rng), rng.uniform(0.2, 0.7)

    def render(rng, size):
        x, y = rotated(rng, size, angle + small_turn(rng))
        x = x + 0.004 * noise(rng, size, 6)
        u, v = np.sin(x * period * np.pi) ** 2, np.sin(y * period * np.pi) ** 2
        over = (np.floor(x * period) + np.floor(y * period)) % 2
        image = mix(shade(warp_colour, u - 0.5, contrast), shade(weft_colour, v - 0.5, contrast), over)
        return shade(image, noise(rng, size, size / 2), 0.06)

    return render


def knitted(rng: np.random.Generator) -> Renderer:
    columns, rows, base, contrast = rng.uniform(10, 30), rng.uniform(10, 30), colour(rng), rng.uniform(0.3, 0.8)

    def render(rng, size):
        x, y = rotated(rng, size, small_turn(rng))
        x = x + 0.003 * noise(rng, size, 8)
        slant = np.abs((x * columns) % 1 - 0.5) * 1.2
        loops = np.sin((y * rows + slant) * 2 * np.pi) * 0.5 + 0.5
        gaps = np.abs(np.sin(x * columns * np.pi)) ** 0.5
        return shade(shade(base, loops * gaps - 0.5, contrast), noise(rng, size, size / 2), 0.08)

    return render


def wood(rng: np.random.Generator) -> Renderer:
    light, dark = colour(rng, 0.6, 0.5, 0.9), colour(rng, 0.6, 0.2, 0.5)
    frequency, bend, angle = rng.uniform(4, 25), rng.uniform(0.02, 0.12), rng.choice([0, 1.571])
    knots = rng.random() < 0.3

    def render(rng, size):
        x, _ = rotated(rng, size, angle + small_turn(rng))
        field = x + bend * noise(rng, size, 5, 1.5) * 0.5
        if knots:
            cx, cy = rng.random(2)
            px, py = coordinates(size)
            field = field + 0.1 * np.exp(-((px - cx) ** 2 + (py - cy) ** 2) / 0.01)
        rings = np.sin(field * frequency * 2 * np.pi) * 0.5 + 0.5
        grain = noise(rng, size, size / 2, 6) if angle == 0 else noise(rng, size, 6, size / 2)
        return shade(mix(light, dark, rings**1.5 * 0.7), grain, 0.08)

    return render


def leather(rng: np.random.Generator) -> Renderer:
    base, count, depth = colour(rng, 0.7, 0.15, 0.7), rng.uniform(14, 60), rng.uniform(0.15, 0.5)

    def render(rng, size):
        first, second = cells(rng, size, count)
        creases = np.clip((second - first) * 3, 0, 1)
        return shade(shade(base, creases - 0.7, depth), fractal(rng, size, 10, 3), 0.06)

    return render


def brushed_metal(rng: np.random.Generator) -> Renderer:
    base, strength, along = colour(rng, 0.15, 0.4, 0.85), rng.uniform(0.04, 0.18), rng.random() < 0.5

    def render(rng, size):
        lines = noise(rng, size, 4, size) + 0.5 * noise(rng, size, 12, size / 2)
        lines = lines if along else lines.T
        return shade(shade(base, lines, strength), noise(rng, size, 3), 0.06)

    return render


def cast_metal(rng: np.random.Generator) -> Renderer:
    base, grain, pits = colour(rng, 0.15, 0.25, 0.7), rng.uniform(0.04, 0.15), rng.uniform(0, 1.5)

    def render(rng, size):
        field = fractal(rng, size, size / 8, 3, 0.8)
        dark = np.clip(noise(rng, size, size / 5) - 2.6 + 0.5 * pits, 0, 1)
        return shade(shade(base, field, grain), -dark, 0.5)

    return render


def stone(rng: np.random.Generator) -> Renderer:
    palette = [colour(rng, 0.4) for _ in range(3)]
    scale, edges, mottle = rng.uniform(8, 50), rng.uniform(0.5, 3), rng.uniform(0.02, 0.1)

    def render(rng, size):
        image = np.broadcast_to(palette[0], (size, size, 3))
        for other in palette[1:]:
            image = mix(image, other, np.clip(fractal(rng, size, scale, 3) * edges - 0.8, 0, 1))
        return shade(image, noise(rng, size, size / 2), mottle)

    return render


def marble(rng: np.random.Generator) -> Renderer:
    base, vein = colour(rng, 0.2, 0.5, 0.95), colour(rng, 0.3, 0.2, 0.6)
    scale, angle = rng.uniform(3, 8), rng.random() * 3

    def render(rng, size):
        x, _ = rotated(rng, size, angle)
        veins = 1 - np.abs(np.sin((x * scale + 0.6 * fractal(rng, size, 4, 4)) * np.pi))
        return shade(mix(base, vein, veins**6 * 0.7), fractal(rng, size, 20, 3), 0.03)

    return render


def tile(rng: np.random.Generator) -> Renderer:
    base, grout, count = colour(rng), colour(rng, 0.2), rng.uniform(2, 9)
    width, mottle, brick = rng.uniform(0.02, 0.08), rng.uniform(0.02, 0.12), rng.random() < 0.5

    def render(rng, size):
        x, y = rotated(rng, size, small_turn(rng))
        u, v = x * count, y * count
        u = u + brick * 0.5 * (np.floor(v) % 2)
        near = np.maximum(np.abs(u % 1 - 0.5), np.abs(v % 1 - 0.5))
        line = np.clip((near - 0.5 + width) * size / count, 0, 1)
        image = shade(base, fractal(rng, size, 6, 4), mottle)
        return mix(image, grout, line)

    return render


def plastic(rng: np.random.Generator) -> Renderer:
    base, grain, sheen = colour(rng, 0.9), rng.uniform(0.0, 0.03), rng.uniform(0, 0.25)

    def render(rng, size):
        return shade(shade(base, noise(rng, size, 2), sheen * 0.4), noise(rng, size, size / 2), grain)

    return render


def paper(rng: np.random.Generator) -> Renderer:
    base, grain, fibres = colour(rng, 0.2, 0.6, 0.95), rng.uniform(0.01, 0.05), rng.integers(0, 60)

    def render(rng, size):
        image = shade(base, fractal(rng, size, size / 6, 2, 0.8), grain)
        canvas = Image.new("F", (size, size))
        draw = ImageDraw.Draw(canvas)
        for x, y, angle in rng.random((fibres, 3)):
            dx, dy = 0.04 * size * np.cos(6.3 * angle), 0.04 * size * np.sin(6.3 * angle)
            draw.line((x * size, y * size, x * size + dx, y * size + dy), fill=float(rng.normal(0, 1)))
        return shade(image, np.asarray(canvas), 0.06)

    return render


def printed(rng: np.random.Generator) -> Renderer:
    base, count, seed = colour(rng, 0.4, 0.5, 0.95), rng.integers(2, 9), rng.integers(1 << 30)

    def render(rng, size):
        motif = np.random.default_rng(seed)
        cell = max(8, size // count)
        tile_size = cell * (count + 2)
        stamp = Image.new("RGB", (cell, cell), rgb(base))
        draw = ImageDraw.Draw(stamp)
        for _ in range(motif.integers(1, 5)):
            box = np.sort(motif.random((2, 2)), axis=0).ravel() * cell
            ink = rgb(colour(motif, 0.9, 0.05, 0.9))
            shape = motif.integers(3)
            if shape == 0:
                draw.ellipse(tuple(box), fill=ink)
            elif shape == 1:
                draw.rectangle(tuple(box), fill=ink)
            else:
                draw.line(tuple(box), fill=ink, width=max(1, cell // 10))
        sheet = Image.new("RGB", (tile_size, tile_size))
        for row in range(count + 2):
            for column in range(count + 2):
                sheet.paste(stamp, (column * cell, row * cell))
        x, y = rng.integers(0, cell, 2)
        sheet = sheet.rotate(np.degrees(small_turn(rng)), Image.Resampling.BILINEAR)
        image = np.asarray(sheet.crop((x, y, x + size, y + size)), np.float32) / 255
        return shade(image, noise(rng, size, size / 2), 0.03)

    return render


def granules(rng: np.random.Generator) -> Renderer:
    palette = [colour(rng, 0.6) for _ in range(rng.integers(1, 4))]
    ground, radius = colour(rng, 0.3, 0.05, 0.4), rng.uniform(0.015, 0.05)

    def render(rng, size):
        canvas = Image.new("RGB", (size, size), rgb(ground))
        draw = ImageDraw.Draw(canvas)
        for _ in range(min(900, int(1.6 / (np.pi * radius**2)))):
            x, y = rng.random(2) * size
            rx, ry = radius * size * rng.uniform(0.7, 1.2, 2)
            tone = palette[rng.integers(len(palette))] * rng.uniform(0.75, 1.15)
            dark, light = rgb(np.clip(tone * 0.7, 0, 1)), rgb(np.clip(tone, 0, 1))
            draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=dark)
            draw.ellipse((x - rx * 0.8, y - ry * 0.9, x + rx * 0.6, y + ry * 0.5), fill=light)
        return np.asarray(canvas, np.float32) / 255

    return render


def carpet(rng: np.random.Generator) -> Renderer:
    palette, strength = [colour(rng), colour(rng)], rng.uniform(0.1, 0.35)
    fine = rng.uniform(2, 4)

    def render(rng, size):
        speckle = noise(rng, size, size / fine) + 0.5 * noise(rng, size, size / (2 * fine))
        image = mix(*palette, np.clip(speckle * 0.5 + 0.5, 0, 1))
        return shade(image, noise(rng, size, size / fine), strength)

    return render


def mesh(rng: np.random.Generator) -> Renderer:
    wire, ground = colour(rng, 0.2, 0.4, 0.9), colour(rng, 0.3, 0.03, 0.3)
    count, width, angle = rng.uniform(5, 18), rng.uniform(0.12, 0.3), rng.choice([0, 0.785])

    def render(rng, size):
        x, y = rotated(rng, size, angle + small_turn(rng))
        u, v = np.abs((x * count) % 1 - 0.5), np.abs((y * count) % 1 - 0.5)
        near = np.minimum(u, v) / count
        lines = step(near - width / 2 / count, size)
        relief = 1 - (near * count / width * 2) ** 2
        return mix(shade(ground, noise(rng, size, 6), 0.2), shade(wire, relief, 0.3), lines)

    return render


def asphalt(rng: np.random.Generator) -> Renderer:
    base, grain, pebbles = colour(rng, 0.1, 0.25, 0.6), rng.uniform(0.08, 0.25), rng.uniform(30, 90)

    def render(rng, size):
        first, _ = cells(rng, size, pebbles)
        field = fractal(rng, size, size / 8, 3, 0.9)
        return shade(shade(base, 0.5 - first, 0.25), field, grain) * (1 + 0.08 * noise(rng, size, 3))[..., None]

    return render


def foam(rng: np.random.Generator) -> Renderer:
    base, count = colour(rng, 0.5, 0.4, 0.9), rng.uniform(20, 70)

    def render(rng, size):
        first, _ = cells(rng, size, count)
        holes = np.clip(1.4 - 2.5 * first, 0, 1) * (noise(rng, size, count) > 0.3)
        return shade(shade(base, -holes, 0.5), noise(rng, size, size / 2), 0.05)

    return render


def rippled(rng: np.random.Generator) -> Renderer:
    base, period, depth, angle = colour(rng, 0.4), rng.uniform(6, 40), rng.uniform(0.1, 0.4), rng.random() * 3.14

    def render(rng, size):
        x, _ = rotated(rng, size, angle + small_turn(rng))
        wave = np.sin((x + 0.01 * noise(rng, size, 4)) * period * 2 * np.pi)
        image = shade(shade(base, wave, depth), noise(rng, size, size / 2), 0.04)
        return warp(image, *(2 * noise(rng, size, 4) for _ in range(2)))

    return render


MATERIALS: dict[str, Callable[[np.random.Generator], Renderer]] = {
    "woven fabric": woven,
    "knitted fabric": knitted,
    "wood": wood,
    "leather": leather,
    "brushed metal": brushed_metal,
    "cast metal": cast_metal,
    "stone": stone,
    "marble": marble,
    "tile": tile,
    "plastic": plastic,
    "paper": paper,
    "printed pattern": printed,
    "granules": granules,
    "carpet": carpet,
    "mesh": mesh,
    "asphalt": asphalt,
    "foam": foam,
    "corrugated sheet": rippled,
}
