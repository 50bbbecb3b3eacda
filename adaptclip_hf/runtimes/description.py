"""`adaptclip_export.json`: what a program that runs the graphs needs to know."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from ..model_files import EXPORT_FILE
from ..validation import FileContent

Stop = Annotated[list[float], Field(min_length=5, max_length=5)]
ANEW = "Export the model anew."
OF = " of "  # "bfloat16 of 71b4...", the weights of an export in a lower precision


def lowered(weights: str) -> str:
    """The precision in the name of weights that are not the model's own; empty for others."""
    return weights.rpartition(OF)[0]


class MadeBy(FileContent):
    """[`AnomalyDetector.describe`] of the model that was exported, with what the engine asks for by name."""

    model_config = ConfigDict(extra="allow")

    weights: str
    fingerprint: dict[str, str]


class Preprocessing(FileContent):
    """Constants that make pixel values of an RGB image."""

    size: int = Field(ge=1)
    resample: int
    rescale_factor: float
    image_mean: Annotated[list[float], Field(min_length=3, max_length=3)]
    image_std: Annotated[list[float], Field(min_length=3, max_length=3)]


class BakedProfile(FileContent):
    """What turns a score of the graph with a profile's bank into a decision."""

    threshold: float
    pixel_threshold: float | None
    scores: list[float]
    tile: str
    colours: list[Stop] = []


class Description(FileContent):
    """What an exported folder says about itself.

    Attributes:
        format, precision: of the graphs. In bfloat16 and int8 the image encoder computes, and the scores in float32.
        made_by: of the model that was exported.
        parity: how far scores and maps are from torch's, at most, and on how many images.
        accuracy: of a lower precision, the AUROC before and after, by data set.
        profile: threshold, calibration scores and view of a profile that was baked in.
        colours: of heatmaps without a profile, (value, red, green, blue, opacity) from one stop to the next; a profile
            has its own. Empty in exports of earlier versions.
        object_name: the word for the object in the text prompts, which are constants of the graphs.
    """

    format: Literal["onnx", "openvino", "torch"]
    precision: Literal["float32", "bfloat16", "float16", "int8"]
    made_by: MadeBy
    preprocessing: Preprocessing
    parity: dict[str, int | float]
    object_name: str
    accuracy: dict[str, dict[str, float]] = {}
    profile: BakedProfile | None = None
    colours: list[Stop] = []

    @property
    def computes_in(self) -> str:
        """What the image encoder's products are computed in. In float16 weights are stored, and widened again."""
        return "float32" if self.precision == "float16" else self.precision

    @property
    def is_lowered(self) -> bool:
        """Whether its weights are not the model's own, so that it refuses the model's profiles and banks."""
        return bool(lowered(self.made_by.weights))

    def save(self, folder: Path):
        (folder / EXPORT_FILE).write_text(json.dumps(self.model_dump(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Description":
        """Raises a ValueError that names the file, and what is wrong with it."""
        path = folder / EXPORT_FILE
        try:
            return cls.read(path, ANEW)
        except OSError as error:
            raise ValueError(f"{path} is not what `adaptclip export` wrote: {error}. {ANEW}") from error

    def require_object_name(self, object_name: str | None):
        """Refuses another object name than that of the text embeddings, which are constants of the graphs.

        Raises:
            ValueError: says how to export the model for it.
        """
        if object_name not in (None, self.object_name):
            raise ValueError(
                f"This model was exported for the object name {self.object_name!r}, and has no text tower: export it "
                f"with --object-name {object_name!r}."
            )
