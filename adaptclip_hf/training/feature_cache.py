"""The frozen encoder's features of each image, computed once and kept on disk."""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HOME
from safetensors.torch import load_file, save
from tqdm.auto import tqdm

from ..detector import AnomalyDetector
from ..files import write_json, write_whole
from ..modeling import AdaptCLIPModel, ImageFeatures

DEFAULT_FOLDER = Path(HF_HOME) / "adaptclip-features"
DEFAULT_LIMIT = 50.0
KEPT_FREE = 0.05
IMAGES_AT_ONCE = 8


class FeatureCache:
    """One file for each image, named by the image's content, in a subfolder for the model and preprocessing.

    A file appears whole or not at all, so several runs may share the folder and any of them may be killed.

    Args:
        folder: holds all caches.
        detector: its image encoder and preprocessing make the features, which are kept in float16, or in bfloat16 if
            they are computed in it.
        autocast: the dtype that training computes in, if it is not that of the weights.

    Raises:
        ValueError: the detector's model runs on another runtime than torch.
    """

    def __init__(self, folder: Path, detector: AnomalyDetector, autocast: torch.dtype | None = None):
        model = detector.model
        if not isinstance(model, AdaptCLIPModel):
            raise ValueError(f"Features are cached for a torch model; this one runs on {model.backend}.")
        self.model, self.detector, self.autocast = model, detector, autocast
        self.dtype = torch.bfloat16 if torch.bfloat16 in (model.dtype, autocast) else torch.float16
        settings = {
            "model": model.fingerprint(),
            "preprocessing": detector.processor.image_processor.fingerprint(),
            "computed_in": str(autocast or model.dtype),
            "kept_in": str(self.dtype),
        }
        description = json.dumps(settings, indent=1, sort_keys=True)
        self.folder = folder / hashlib.sha256(description.encode()).hexdigest()[:16]
        write_json(self.folder / "settings.json", settings)

    def file_of(self, digest: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.safetensors"

    def bytes_per_image(self) -> int:
        config = self.model.config
        tokens = len(config.feature_layers) * (1 + config.grid_size**2) + 1
        return tokens * config.clip_config.projection_dim * self.dtype.itemsize

    def read(self, digest: str) -> ImageFeatures:
        """Features of one image (B = 1) in float32."""
        tensors = load_file(self.file_of(digest))
        patch_embeds = tuple(tensors["patch_embeds"].float().unsqueeze(1))
        return ImageFeatures(image_embeds=tensors["image_embeds"].float()[None], patch_embeds=patch_embeds)

    def write(self, digest: str, features: ImageFeatures, index: int):
        tensors = {
            "image_embeds": features.image_embeds[index],
            "patch_embeds": torch.stack([layer[index] for layer in features.patch_embeds]),
        }
        tensors = {name: tensor.to("cpu", self.dtype).contiguous() for name, tensor in tensors.items()}
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise ValueError(f"Features of this model overflow in {self.dtype}: train in bfloat16, or without a cache.")
        write_whole(self.file_of(digest), save(tensors))

    def missing(self, digests: dict[str, dict]) -> dict[str, dict]:
        return {digest: image for digest, image in digests.items() if not self.file_of(digest).is_file()}

    def refusal(self, images: int, missing: int, limit: float) -> str | None:
        """Why the features cannot be kept; `None` if they can.

        Args:
            images, missing: numbers of images, and of those that are not there yet.
            limit: GB.
        """
        if self.model.trains_encoder():
            return "the image encoder is trained"
        gigabyte, needed = 2**30, missing * self.bytes_per_image()
        if (total := images * self.bytes_per_image()) > limit * gigabyte:
            return f"{total / gigabyte:.1f} GB are over the limit of {limit:g} GB"
        disk = shutil.disk_usage(self.folder)
        if needed > disk.free - KEPT_FREE * disk.total:
            return f"{needed / gigabyte:.1f} GB do not fit: the disk has {disk.free / gigabyte:.1f} GB free"
        return None

    def fill(self, missing: dict[str, dict], device: torch.device, progress: bool = True):
        """Encodes images {digest: undecoded image}."""
        self.model.to(device).eval()
        digests = list(missing)
        with tqdm(total=len(digests), desc="encoding once", unit="image", disable=not progress) as bar:
            for first in range(0, len(digests), IMAGES_AT_ONCE):
                part = digests[first : first + IMAGES_AT_ONCE]
                pixel_values = self.detector.processor([missing[digest] for digest in part])["pixel_values"]
                with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
                    features = self.detector.encode(pixel_values)
                for index, digest in enumerate(part):
                    self.write(digest, features, index)
                bar.update(len(part))


def content_digests(images: list[dict], progress: bool = True) -> list[str]:
    """SHA-256 of each undecoded image's bytes."""

    def digest(image: dict) -> str:
        if image["bytes"] is not None:
            return hashlib.sha256(image["bytes"]).hexdigest()
        with Path(image["path"]).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tqdm(pool.map(digest, images), "reading", len(images), unit="image", disable=not progress))
