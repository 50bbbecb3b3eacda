"""The check that every export must pass: its scores and maps are those of torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..engine import AnomalyScorer
from ..modeling.prompt_bank import PromptBank
from ..modeling.prompt_query_adapter import unit_patch_tokens
from ..modeling.vision_encoder import ImageFeatures
from ..processing.image_loading import load_image
from ..reporting import Report, print_nothing

TOLERANCE = 1e-4
# free photographs and textures of scikit-image, whose data folder names their sources
REAL_IMAGES = ("coffee.png", "coins.png", "gravel.png", "retina.jpg")
RANDOM_IMAGES = 1


def sample_images(given: Sequence[str | Path] = ()) -> list:
    """The given images, some real ones and some random ones."""
    from skimage.data import data_dir

    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (200, 260, 3), dtype=np.uint8) for _ in range(RANDOM_IMAGES)]
    return [*given, *(str(Path(data_dir, name)) for name in REAL_IMAGES), *map(Image.fromarray, noise)]


@torch.inference_mode()
def compare(of_torch: AnomalyScorer, exported: AnomalyScorer, images: Sequence, begin: Report = print_nothing) -> dict:
    """How far an exported model is from torch's, at most: zero-shot, and with banks of one and three of the images.

    Either encodes each image once, which takes nearly all the time: the first alone, the others as one batch. Banks and
    scores are made of its own features.

    Args:
        begin: called with a line before either computes.

    Returns:
        `{"images": n, "scores": largest difference, "maps": largest difference}`, NaN where one is not finite.
    """
    pixel_values = torch.cat([of_torch.pixel_values(load_image(image)) for image in images])
    found = []
    for detector in (of_torch, exported):
        begin(f"comparing: {detector.backend}")
        found.append(scores_and_maps(detector, pixel_values, exported.model.config.object_name))
    pairs = list(zip(*found, strict=True))
    worst = [torch.stack([(ours[i] - theirs[i]).abs().max() for ours, theirs in pairs]).max() for i in (0, 1)]
    return {"images": len(pixel_values), "scores": float(worst[0]), "maps": float(worst[1])}


def scores_and_maps(
    detector: AnomalyScorer, pixel_values: torch.Tensor, object_name: str
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Scores and maps of the first image, and of the others as a batch: without a bank, and with banks of 1 and 3."""
    model, text = detector.model, detector.encode_text(object_name)
    batches = [detector.encode(pixel_values[:1]), encode_together(detector, pixel_values[1:])]
    patch_embeds = zip(*(each.patch_embeds for each in batches), strict=True)
    tokens = tuple(unit_patch_tokens(torch.cat(layer)) for layer in patch_embeds)
    every = PromptBank(tokens, model.fingerprint(), {})
    banks = [every.select(which) for which in ([len(pixel_values) - 1], [1, 2, 3])]
    if model.config.normal_variation:
        banks = [bank.with_variation() for bank in banks]
    return [detector.score(features, bank, text) for bank in (None, *banks) for features in batches]


def encode_together(detector: AnomalyScorer, pixel_values: torch.Tensor) -> ImageFeatures:
    """Features of a batch. The engine may encode its images one by one, and a graph must take a batch too."""
    if detector.backend == "torch":
        return detector.encode(pixel_values)
    return detector.model.image_features(pixel_values)


def require_parity(parity: dict, path: Path):
    """Raises a ValueError where scores or maps are not those of torch."""
    if not (parity["scores"] <= TOLERANCE and parity["maps"] <= TOLERANCE):  # NaN is neither
        raise ValueError(
            f"The export disagrees with torch on {parity['images']} images: scores by up to {parity['scores']:.1e}, "
            f"maps by up to {parity['maps']:.1e}, where {TOLERANCE:.0e} is allowed. Nothing was written to {path}."
        )
