"""Categories: a kind of surface or object with fixed parameters, seen by one camera under its light."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .defects import add_defect
from .fields import blur, coordinates, noise
from .materials import MATERIALS, Renderer
from .objects import OBJECTS, ObjectRenderer
from .traits import TRAITS, Trait

CATEGORIES = (*MATERIALS, *OBJECTS)


@dataclass(frozen=True)
class Camera:
    """What all images of a category share: light, sharpness, noise and colour."""

    light_angle: float
    light_strength: float
    light_drift: float
    contrast_drift: float
    vignette: float
    blur: float
    noise: float
    grey: bool
    gamma: float

    def take(self, rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
        """An image, uint8 (S, S, 3), of a scene; the light varies from image to image."""
        size = len(scene)
        x, y = coordinates(size)
        angle = self.light_angle + rng.normal(0, 0.2)
        light = 1 + self.light_strength * ((x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle))
        light = light - self.vignette * ((x - 0.5) ** 2 + (y - 0.5) ** 2) + 0.02 * noise(rng, size, 2)
        image = scene * light[..., None] * np.exp(rng.normal(0, self.light_drift))
        if self.blur > 0.7:
            image = blur(image, self.blur)
        image = np.clip(image, 0, 1) ** (self.gamma * np.exp(rng.normal(0, self.contrast_drift)))
        if self.grey:
            image = np.broadcast_to(image.mean(-1, keepdims=True), image.shape)
        image = image + self.noise * rng.standard_normal((size, size, 1 if self.grey else 3), dtype=np.float32)
        return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Category:
    """A product or material.

    Attributes:
        name: what a caption calls it, such as "leather".
        render: (rng, size) -> scene, and foreground for objects.
        traits: normal features of every instance.
    """

    name: str
    camera: Camera
    render: Renderer | ObjectRenderer
    traits: tuple[Trait, ...] = ()

    def scene(self, rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
        rendered = self.render(rng, size)
        scene, foreground = rendered if isinstance(rendered, tuple) else (rendered, np.ones((size, size), bool))
        for trait in self.traits:
            scene = trait(rng, scene, foreground)
        return np.clip(scene, 0, 1).astype(np.float32), foreground

    def normal(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """An image of a good instance, uint8 (S, S, 3)."""
        return self.camera.take(rng, self.scene(rng, size)[0])

    def anomalous(
        self, rng: np.random.Generator, size: int, kind: str | None = None
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """An image of a defective instance, its mask (S, S) bool, and the kind of defect; half of them are fainter."""
        scene, foreground = self.scene(rng, size)
        strength = rng.choice([1.0, rng.uniform(0.35, 1)])
        scene, mask, kind = add_defect(rng, scene, foreground, kind, strength)
        if rng.random() < 0.15:
            scene, more, _ = add_defect(rng, scene, foreground)
            mask = mask | more
        return self.camera.take(rng, scene), mask, kind


def make_category(seed: int, name: str | None = None) -> Category:
    """A category with parameters drawn from the seed; of the named material or object, or of any.

    Raises:
        ValueError: for a name that is not in `CATEGORIES`.
    """
    rng = np.random.default_rng([seed, 20])
    if name is None:
        name = str(rng.choice(list(MATERIALS) if rng.random() < 0.5 else list(OBJECTS)))
    if name not in CATEGORIES:
        raise ValueError(f"No category {name!r}; there are {', '.join(CATEGORIES)}.")
    camera = Camera(
        light_angle=rng.random() * 6.28,
        light_strength=rng.uniform(0, 0.5),
        light_drift=rng.choice([0.02, rng.uniform(0.02, 0.25)]),
        contrast_drift=rng.choice([0.02, rng.uniform(0.02, 0.15)]),
        vignette=rng.choice([0, rng.uniform(0, 0.6)]),
        blur=rng.choice([0, rng.uniform(0.5, 1.6)]),
        noise=rng.uniform(0, 0.025),
        grey=bool(rng.random() < 0.3),
        gamma=rng.uniform(0.8, 1.25),
    )
    makers: dict = {**MATERIALS, **OBJECTS}
    render = makers[name](rng)
    traits = rng.choice(list(TRAITS), rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2]), replace=False)
    return Category(name, camera, render, tuple(TRAITS[each](rng) for each in traits))


def save_mask(mask: np.ndarray, path):
    """Writes a mask as 0/255 PNG."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
