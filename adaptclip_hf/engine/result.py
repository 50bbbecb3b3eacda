"""What comes out for one image, whoever asked."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from ..processing.image_processing_adaptclip import resize_map
from .heatmap import render_heatmap


@dataclass(frozen=True)
class DetectionResult:
    """One image's score and map, or why there is none.

    Attributes:
        name: path or URL of the image, or what kind of thing it was.
        score: in [0, 1], higher is more anomalous; `None` for an image that could not be read.
        label: "normal", "anomalous", or `None` without a threshold.
        model_map: (S, S) float32 in [0, 1], at the model's size.
        size: (height, width) of the image.
        among_normals: the image is itself one of the normal images that it was compared with: its score says nothing.
        error: why the image could not be read.
        image: the RGB image; [`~AnomalyDetector.detect`] leaves it out, [`~AnomalyDetector.stream`] does not.
    """

    name: str
    score: float | None = None
    label: str | None = None
    model_map: np.ndarray | None = field(default=None, repr=False)
    size: tuple[int, int] | None = None
    among_normals: bool = False
    error: str | None = None
    image: Image.Image | None = field(default=None, repr=False)

    @cached_property
    def anomaly_map(self) -> np.ndarray | None:
        """(H, W) float32 in [0, 1], at the image's own size."""
        return None if self.model_map is None else resize_map(self.model_map, self.size)

    def heatmap(self, image: Image.Image | None = None) -> Image.Image:
        """The map over its image, on the fixed scale of [`render_heatmap`].

        Args:
            image: RGB, of the result's size; the result's own by default.

        Raises:
            ValueError: there is no image, or no map to draw.
        """
        image = self.image if image is None else image
        if image is None or self.model_map is None:
            raise ValueError(f"{self.name}: {self.error or 'give the image that the map is drawn over'}.")
        return render_heatmap(image, self.anomaly_map)
