"""A profile's folder: `profile.json`, and the features that it names."""

import hashlib
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers.utils import cached_file

from ..engine import View
from ..files import read_json, write_json, write_whole
from ..model_files import PROFILE_FILE
from ..run_settings import as_json
from ..versions import __version__
from .calibration import Calibration
from .profile import InspectionProfile
from .remembered import CALIBRATING, PhotoMemory, RememberedPhoto
from .settings import Settings

FEATURES = "features-{}.safetensors"
FEATURES_NAME = re.compile(r"features-[0-9a-f]{16}\.safetensors")
IGNORE = "ignore"
FORMAT = 1


def is_profile_file(name: str) -> bool:
    """Whether a file of this name may be part of a profile's folder."""
    return name == PROFILE_FILE or FEATURES_NAME.fullmatch(name) is not None


def save_profile(profile: InspectionProfile, folder: Path) -> Path:
    """Writes a profile; an older one in the folder is whole until the new one is."""
    tensors = {name: tensor.contiguous() for name, tensor in profile.memory.tensors.items()}
    if profile.view.ignore is not None:
        tensors[IGNORE] = torch.from_numpy(profile.view.ignore)
    content = save(tensors, metadata={"format": "pt"})
    features = FEATURES.format(hashlib.sha256(content).hexdigest()[:16])
    older = set(folder.glob(FEATURES.format("*"))) - {folder / features}
    write_whole(folder / features, content)
    write_json(folder / PROFILE_FILE, contents(profile, features))
    for file in older:
        file.unlink()
    return folder


def contents(profile: InspectionProfile, features: str) -> dict:
    """What `profile.json` says."""
    calibration = profile.calibration
    return {
        "format": FORMAT,
        "version": __version__,
        "model": profile.model,
        "settings": asdict(profile.settings),
        "view": {name: getattr(profile.view, name) for name in ("tile", "overlap", "same_place", "region")},
        "method": profile.method,
        "threshold": calibration.threshold,
        "pixel_threshold": profile.pixel_threshold,
        "false_alarm_rate_on_average": calibration.expected_rate,
        "false_alarm_rate_95_percent_certain": calibration.certain_rate,
        "escapes": profile.escapes(),
        "suspects": [asdict(suspect) for suspect in profile.suspects()],
        "features": features,
        "bank_rows": list(profile.bank_rows),
        "photos": [photo.as_json() for photo in profile.memory.photos],
        "made_by": as_json(profile.made_by),
    }


def load_profile(folder: str | Path, **hub) -> InspectionProfile:
    """See [`InspectionProfile.from_pretrained`]."""
    file = profile_file(folder, PROFILE_FILE, hub)
    content = read_json(file)
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"it has format {content['format']}, this version reads {FORMAT}")
        if not FEATURES_NAME.fullmatch(content["features"]):
            raise ValueError(f"features: {content['features']!r} is not a file of this folder")
        features = profile_file(folder, content["features"], hub)
        with safe_open(features, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        ignore = tensors.pop(IGNORE, None)
        view = dict(content["view"])
        view["region"] = view["region"] and tuple(view["region"])
        photos = tuple(map(RememberedPhoto.from_json, content["photos"]))
        if photos[-1].rows[1] != len(tensors["image_embeds"]):
            raise ValueError(f"{features.name} holds the features of other photos")
        scores = np.sort([photo.score for photo in photos if photo.role in CALIBRATING])
        return InspectionProfile(
            content["model"],
            content["made_by"],
            Settings(**content["settings"]),
            View(**view, ignore=None if ignore is None else ignore.numpy()),
            PhotoMemory(photos, tensors),
            content["method"],
            tuple(content["bank_rows"]),
            Calibration(scores, content["threshold"]),
            content["pixel_threshold"],
        )
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{file} is not a profile (of `adaptclip fit`): {error!r}") from error


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
