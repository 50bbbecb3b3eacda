"""`adaptclip_export.json`: what a program that runs the graphs needs to know."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..model_files import EXPORT_FILE


@dataclass(frozen=True)
class Description:
    """What an exported folder says about itself.

    Attributes:
        format, precision: of the graphs.
        made_by: [`AnomalyDetector.describe`] of the model that was exported.
        preprocessing: constants that make pixel values of an RGB image.
        parity: how far scores and maps are from torch's, at most, and on how many images.
        accuracy: of a lower precision, the AUROC before and after, by data set.
        profile: threshold, calibration scores and view of a profile that was baked in.
        object_name: the word for the object in the text prompts, which are constants of the graphs.
    """

    format: str
    precision: str
    made_by: dict
    preprocessing: dict
    parity: dict
    object_name: str
    accuracy: dict = field(default_factory=dict)
    profile: dict | None = None

    def save(self, folder: Path):
        (folder / EXPORT_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Description":
        """Raises a ValueError that names the file, and what is wrong with it."""
        path = folder / EXPORT_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is not what `adaptclip export` wrote: {error}. Export the model anew.") from error
