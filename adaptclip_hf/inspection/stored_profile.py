"""How a profile becomes the two files that hold it, and is made of them again."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import as_json
from ..modeling.bank_content import FIELDS, VARIATION
from . import place_variations
from .calibration import Calibration
from .inspectable import Inspectable
from .parts import highest
from .pasted_defects import PastedDefects
from .photos import CALIBRATING, ProfilePhoto
from .profile_content import ProfileContent
from .profile_files import IGNORE

if TYPE_CHECKING:
    import torch

    from .profile import InspectionProfile


def tensors_of(profile: "InspectionProfile") -> "dict[str, torch.Tensor]":
    """What the file of features holds."""
    import torch

    tensors = profile.features.tensors | profile.features.added.tensors
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if profile.variation is not None:
        tensors |= {f"{VARIATION}.{name}": each.contiguous() for name, each in profile.variation.tensors().items()}
    tensors |= place_variations.packed(profile.variations)
    if profile.view.ignore is not None:
        tensors[IGNORE] = torch.from_numpy(profile.view.ignore)
    return tensors


def contents(profile: "InspectionProfile") -> dict:
    """What `profile.json` says, without the format; the features' file is named when it is written."""
    view = {name: getattr(profile.view, name) for name in ("tile", "overlap", "same_place", "region")}
    if profile.view.bit_depth is not None:
        view["bit_depth"] = profile.view.bit_depth
    told: dict[str, Any] = {} if profile.pasted is None else {"verdict": profile.verdict}
    if profile.acceptance is not None:
        told["acceptance"] = profile.acceptance.to_json()
    if profile.inspectable is not None:
        told["inspectable"] = profile.inspectable.to_json()
    return told | {
        "model": profile.model,
        "settings": asdict(profile.settings),
        "view": view,
        "method": profile.method,
        "threshold": profile.calibration.threshold,
        "pixel_threshold": profile.pixel_threshold,
        "false_alarm_rate_on_average": profile.calibration.expected_rate,
        "false_alarm_rate_95_percent_certain": profile.calibration.certain_rate,
        "escapes": profile.escapes(),
        "suspects": [asdict(suspect) for suspect in profile.suspects()],
        "features": None,
        "bank_rows": list(profile.bank_rows),
        "photos": [photo.to_json() for photo in profile.features.photos],
        "sketches": [photo.sketch.hex() for photo in profile.features.photos],
        "made_by": as_json(profile.made_by),
        "history": [change.model_dump() for change in profile.history],
    }


def fields_of(
    content: ProfileContent,
    arrays: dict[str, np.ndarray],
    make_features: Callable[[tuple[ProfilePhoto, ...], dict[str, np.ndarray]], Any],
    make_variation: Callable[..., Any],
) -> dict[str, Any]:
    """The fields of the profile that its two files hold.

    Args:
        make_features: of photos and their arrays.
        make_variation: of the fields of a variation by their names.
    """
    view = content.view.view(arrays.pop(IGNORE, None))
    known = {name: arrays.pop(f"{VARIATION}.{name}") for name in FIELDS if f"{VARIATION}.{name}" in arrays}
    variation = make_variation(**known) if known else None
    variations = tuple(make_variation(**each) for each in place_variations.unpacked(arrays))
    arrays = {name: array for name, array in arrays.items() if not place_variations.is_one(name)}
    sketches = content.sketches or [""] * len(content.photos)
    photos = tuple(
        ProfilePhoto.from_json(photo.model_dump() | {"sketch": bytes.fromhex(sketch)})
        for photo, sketch in zip(content.photos, sketches, strict=True)
    )
    scores = np.sort(highest([photo for photo in photos if photo.role in CALIBRATING]))
    return {
        "model": content.model,
        "made_by": content.made_by,
        "settings": content.settings.settings(),
        "view": view,
        "features": make_features(photos, arrays),
        "method": content.method,
        "bank_rows": tuple(content.bank_rows),
        "calibration": Calibration(scores, content.threshold),
        "pixel_threshold": content.pixel_threshold,
        "variation": variation,
        "pasted": None if content.verdict is None else PastedDefects.from_json(content.verdict.model_dump()),
        "variations": variations,
        "acceptance": None if content.acceptance is None else content.acceptance.acceptance(),
        "inspectable": None if content.inspectable is None else Inspectable(**content.inspectable.model_dump()),
        "history": tuple(content.history),
    }
