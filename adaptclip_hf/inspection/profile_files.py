"""A profile's folder: `profile.json`, and the features that it names."""

import hashlib
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers.utils import cached_file

from ..files import read_json, write_json, write_whole
from ..model_files import PROFILE_FILE
from ..versions import __version__

FEATURES = "features-{}.safetensors"
FEATURES_NAME = re.compile(r"features-[0-9a-f]{16}\.safetensors")
FORMAT = 1
# what a damaged or foreign folder makes its reader raise
DAMAGED = (SafetensorError, KeyError, TypeError, ValueError, IndexError)


def is_profile_file(name: str) -> bool:
    """Whether a file of this name may be part of a profile's folder."""
    return name == PROFILE_FILE or FEATURES_NAME.fullmatch(name) is not None


def write_profile(folder: Path, content: dict, tensors: dict[str, torch.Tensor]):
    """Writes a profile's folder; an older profile in it stays whole until the new one is.

    Args:
        content: of `profile.json`; the format, the version and the name of the features' file are put in.
        tensors: the photos' features, contiguous.
    """
    packed = save(tensors, metadata={"format": "pt"})
    features = FEATURES.format(hashlib.sha256(packed).hexdigest()[:16])
    older = set(folder.glob(FEATURES.format("*"))) - {folder / features}
    write_whole(folder / features, packed)
    write_json(folder / PROFILE_FILE, {"format": FORMAT, "version": __version__} | content | {"features": features})
    for file in older:
        file.unlink()


def read_profile(folder: str | Path, **hub) -> tuple[Path, dict, dict[str, torch.Tensor]]:
    """`profile.json`, its content and the features, of a folder or repository.

    Raises:
        FileNotFoundError: no such folder or repository, or one without a profile.
        ValueError: it is damaged, or of another format.
    """
    file = profile_file(folder, PROFILE_FILE, hub)
    content = read_json(file)
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"it has format {content['format']}, this version reads {FORMAT}")
        if not FEATURES_NAME.fullmatch(content["features"]):
            raise ValueError(f"features: {content['features']!r} is not a file of this folder")
        features = profile_file(folder, content["features"], hub)
        with safe_open(features, framework="pt") as opened:
            return file, content, {name: opened.get_tensor(name) for name in opened.keys()}
    except DAMAGED as error:
        raise not_a_profile(file, error) from error


def not_a_profile(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} is not a profile (of `adaptclip fit`): {error!r}")


def profile_file(folder: str | Path, name: str, hub: dict) -> Path:
    """A file of a profile's folder or repository.

    Raises:
        FileNotFoundError: no such folder or repository, or one without a profile.
    """
    if Path(folder).is_dir():
        file = Path(folder) / name
        if not file.is_file():
            raise FileNotFoundError(f"No profile in {folder}: expected {name}, which `adaptclip fit` writes.")
        return file
    try:
        return Path(cached_file(str(folder), name, **hub))
    except OSError as error:
        raise FileNotFoundError(f"No profile at {folder}, neither a folder here nor on the Hub: {error}") from error
