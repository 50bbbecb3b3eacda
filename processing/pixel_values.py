"""Images to pixel values, by Pillow and NumPy alone: to the bit what [`AdaptCLIPImageProcessor`] gives."""

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from PIL import Image

# of OpenAI's CLIP
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# what pixel values depend on, besides the size
SETTINGS = (
    "do_convert_rgb",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "resample",
    "rescale_factor",
)


@dataclass(frozen=True)
class LightImageProcessor:
    """The settings of an image processor, by which it makes pixel values of RGB images.

    Attributes:
        size: of the model's input, `height` and `width`.
    """

    size: dict[str, int]
    do_convert_rgb: bool = True
    do_normalize: bool = True
    do_rescale: bool = True
    do_resize: bool = True
    image_mean: Any = CLIP_MEAN
    image_std: Any = CLIP_STD
    resample: int = Image.Resampling.BICUBIC
    rescale_factor: float = 1 / 255

    @classmethod
    def of(cls, settings: dict[str, Any]) -> "LightImageProcessor":
        """Of the settings that a file holds, see [`image_settings`]."""
        names = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in settings.items() if name in names and value is not None})

    def __call__(self, image: Image.Image) -> dict[str, np.ndarray]:
        """`pixel_values` (1, 3, S, S) float32 of an RGB image."""
        if self.do_resize:
            image = image.resize((self.size["width"], self.size["height"]), Image.Resampling(int(self.resample)))
        return {"pixel_values": self.values_of(np.asarray(image))[None]}

    def values_of(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (H, W, 3) uint8 -> (3, H, W) float32."""
        values = np.moveaxis(pixels, -1, 0)
        scaled = values.astype(np.float64) * self.rescale_factor if self.do_rescale else values
        scaled = scaled.astype(np.float32)
        if self.do_normalize:
            mean, deviation = (np.array(each, np.float32)[:, None, None] for each in (self.image_mean, self.image_std))
            scaled = (scaled - mean) / deviation
        return np.ascontiguousarray(scaled)

    def fingerprint(self) -> dict[str, str]:
        """How images become pixel values; a prompt bank records it."""
        return fingerprint_of(self)


def fingerprint_of(processor: Any) -> dict[str, str]:
    """How an image processor with these settings makes pixel values, as a prompt bank records it."""
    settings = {name: getattr(processor, name) for name in SETTINGS}
    settings["size"] = dict(processor.size)
    return {name: json.dumps(value, default=int) for name, value in settings.items()}
