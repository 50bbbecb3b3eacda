"""What Hugging Face Inference Endpoints run: a pushed model's `handler.py`; needs transformers, and this package or the
model's own code."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from transformers import pipeline

PROFILE = "profile.json"
PARAMETERS = {"threshold", "object_name", "normal_images"}


class EndpointHandler:
    """Scores images with the model that lies in a repository, and decides by a profile where one lies beside it.

    Args:
        path: the repository's folder.
    """

    def __init__(self, path: str = ""):
        self.detect = pipeline("anomaly-detection", model=path, trust_remote_code=True)  # the endpoint's own repository
        self.profile = path if (Path(path) / PROFILE).is_file() else None

    def __call__(self, data: dict) -> list[dict]:
        """
        Args:
            data: `inputs`, an image or a list of them (PIL images, bytes, image files in base64 or data URLs), and
                `parameters`: `threshold`, `object_name`, `normal_images` (like `inputs`), and `overlay`, true to have
                the map over the image as a PNG in base64.

        Returns:
            For each image `score`, `label`, `reason`, `p_value`, `margin`, `regions` and, where asked for, `overlay`.

        Raises:
            ValueError: says what was expected.
        """
        parameters = dict(data.get("parameters") or {})
        overlay = parameters.pop("overlay", False)
        if unknown := parameters.keys() - PARAMETERS:
            raise ValueError(f"Unknown parameters {sorted(unknown)}; there are {sorted(PARAMETERS | {'overlay'})}.")
        if "normal_images" in parameters:
            parameters["normal_images"] = as_images(parameters["normal_images"])
        elif self.profile is not None and not parameters:
            parameters["profile"] = self.profile
        answers = []
        for result in self.detect(as_images(data.get("inputs")), **parameters):
            answer = {name: result[name] for name in ("score", "label", "reason", "p_value", "margin", "regions")}
            if overlay:
                answer["overlay"] = as_png(result["heatmap"])
            answers.append(answer)
        return answers


def as_images(inputs) -> Sequence[Image.Image | bytes]:
    """Images of a request, whose bytes the pipeline opens; a text is base64 and never a file's name, which would be one
    of the server's."""
    images = []
    for each in inputs if isinstance(inputs, list) else [inputs]:
        if isinstance(each, str):
            each = from_text(each)
        if not isinstance(each, Image.Image | bytes):
            raise ValueError(f"inputs: expected an image, or an image file in base64, got {type(each).__name__}.")
        images.append(each)
    return images


def from_text(text: str) -> bytes:
    """The bytes of an image file in base64, with or without line breaks, or of a data URL."""
    try:
        return base64.b64decode("".join(text.rpartition(",")[2].split()), validate=True)
    except ValueError as error:
        raise ValueError(f"inputs: {text[:20]}... is not base64: {error}.") from error


def as_png(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()
