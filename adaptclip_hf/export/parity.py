"""The check that every export must pass: its scores and maps are those of torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..engine import AnomalyScorer
from ..processing.image_loading import load_image

TOLERANCE = 1e-4
# free photographs and textures of scikit-image, whose data folder names their sources
REAL_IMAGES = ("brick.png", "coffee.png", "coins.png", "gravel.png", "ihc.png", "retina.jpg")
RANDOM_IMAGES = 2


def sample_images(given: Sequence[str | Path] = ()) -> list:
    """The given images, some real ones and some random ones."""
    from skimage.data import data_dir

    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (200, 260, 3), dtype=np.uint8) for _ in range(RANDOM_IMAGES)]
    return [*given, *(str(Path(data_dir, name)) for name in REAL_IMAGES), *map(Image.fromarray, noise)]


@torch.inference_mode()
def compare(of_torch: AnomalyScorer, exported: AnomalyScorer, images: Sequence) -> dict:
    """How far an exported model is from torch's, at most: zero-shot, and with banks of one and three of the images.

    Returns:
        `{"images": n, "scores": largest difference, "maps": largest difference}`.
    """
    pixel_values = torch.cat([of_torch.pixel_values(load_image(image)) for image in images])
    # text embeddings of the same object name, which the graphs hold
    name = exported.model.config.object_name
    texts = [of_torch.encode_text(name), exported.encode_text()]
    differences = {"scores": 0.0, "maps": 0.0}
    for normal in (None, pixel_values[-1:], pixel_values[:3]):
        found = []
        for detector, text in zip((of_torch, exported), texts, strict=True):
            bank = None if normal is None else detector.model.encode_prompts(normal.to(detector.device))
            for batch in (pixel_values[:1], pixel_values[1:]):
                found.append([each.cpu() for each in detector.score(detector.encode(batch), bank, text)])
        for kind, index in (("scores", 0), ("maps", 1)):
            pairs = zip(found[:2], found[2:], strict=True)
            worst = max(float((ours[index] - theirs[index]).abs().max()) for ours, theirs in pairs)
            differences[kind] = max(differences[kind], worst)
    return {"images": len(pixel_values), **differences}


def require_parity(parity: dict, path: Path):
    """Raises a ValueError where scores or maps are not those of torch."""
    worst = max(parity["scores"], parity["maps"])
    if not worst <= TOLERANCE:
        raise ValueError(
            f"The export disagrees with torch on {parity['images']} images: scores by up to {parity['scores']:.1e}, "
            f"maps by up to {parity['maps']:.1e}, where {TOLERANCE:.0e} is allowed. Nothing was written to {path}."
        )
