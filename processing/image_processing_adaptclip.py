"""Image processor class for AdaptCLIP."""

import numpy as np
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD, PILImageResampling

from .image_lists import as_list
from .image_loading import image_of_row, is_in_unit_range, load_image, load_mask, resized_mask
from .map_sizes import resize_map
from .pixel_values import fingerprint_of
from .thresholds import check_threshold, label_of

BACKEND = "pil"
EIGHT_BITS = 1 / 255


class AdaptCLIPImageProcessor(PilBackend):
    """
    Images of any mode and size to `pixel_values` (reference, "Preprocessing"): RGB, a bicubic resize to a square
    without keeping the ratio, CLIP's mean and standard deviation.

    Args:
        size (`dict[str, int]` or `int`): height and width of the model's input, 518 each by default.
    """

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"height": 518, "width": 518}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    model_input_names = ["pixel_values"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, backend: str | None = None, **kwargs):
        """Loads the image processor, as [`~ImageProcessingMixin.from_pretrained`] does.

        Raises:
            ValueError: another backend than "pil", which alone gives the pixel values that models were trained on.
        """
        check_backend(backend)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    def preprocess(self, images, masks=None, return_tensors: str | None = "pt", **kwargs) -> BatchFeature:
        """
        Args:
            images: one image or a list of them: paths, URLs, PIL images, arrays or tensors (see `load_image`).
            masks: one mask an image; pixels above 0 are anomalous.
            kwargs: settings for this call, as `size=28` or `do_normalize=False`. With `do_rescale=False` values keep
                their range: floats in [0, 1], all others 0 to 255. With `do_convert_rgb=False` greys keep their one
                channel, and transparency is a fourth.

        Returns:
            `BatchFeature`: `pixel_values` (B, 3, S, S) float32 and, with masks, `mask_labels` (B, S, S), 0 or 1.

        Raises:
            FileNotFoundError, ValueError: name the file and what was expected.
        """
        return super().preprocess(images, masks, return_tensors=return_tensors, **kwargs)

    def _standardize_kwargs(self, **kwargs) -> dict:
        settings = super()._standardize_kwargs(**kwargs)
        check_size_setting(settings["size"])
        for name in ("do_center_crop", "do_pad"):
            if settings.get(name):
                raise ValueError(
                    f"{name} must be false: maps and masks lie over whole images, which are resized alone."
                )
        return settings

    def _preprocess_image_like_inputs(self, images, masks=None, *, return_tensors=None, **kwargs) -> BatchFeature:
        prepared = self._prepare_image_like_inputs(images, **kwargs)
        sizes = [image.shape[1:] for image in prepared]
        features = self._preprocess(prepared, **kwargs | {"do_resize": False}, return_tensors=return_tensors)
        if masks is not None:
            masks = as_list(masks)
            if len(masks) != len(sizes):
                raise ValueError(f"Expected one mask an image, got {len(masks)} for {len(sizes)} images.")
            resized = [
                resized_mask(load_mask(mask), height, width) for mask, (height, width) in zip(masks, sizes, strict=True)
            ]
            features.update(BatchFeature({"mask_labels": resized}, tensor_type=return_tensors))
        return features

    def _prepare_images_structure(self, images, expected_ndims: int = 3) -> list:
        images = as_list(images)
        nested = [each if isinstance(each, list | tuple) else [each] for each in images]
        return [image for together in nested for image in together]

    def process_image(
        self,
        image,
        do_convert_rgb=None,
        do_resize=None,
        size=None,
        resample=None,
        do_rescale=None,
        **kwargs,
    ) -> np.ndarray:
        """One image of any kind as an array (C, H, W), resized before it becomes one, because arrays are copied.

        `input_data_format` has nothing to say: a layout that can be read both ways has too small a side.
        """
        image = image_of_row(image)
        in_unit_range = is_in_unit_range(image)
        picture = load_image(image, keep_channels=not do_convert_rgb)
        if do_resize:
            picture = picture.resize((size.width, size.height), Image.Resampling(int(resample)))
        array = super().process_image(picture)
        return self.rescale(array, EIGHT_BITS) if in_unit_range and not do_rescale else array

    def read_mask(self, mask, size: dict[str, int] | None = None) -> np.ndarray:
        """A mask (see `load_mask`) as float32 (S, S) of 0 and 1: 0/255, bilinear, above one half."""
        size = dict(self.size) | dict(size or {})
        return resized_mask(load_mask(mask), size["height"], size["width"])

    def fingerprint(self) -> dict[str, str]:
        """How images become pixel values; a prompt bank records it."""
        return fingerprint_of(self)

    def post_process_anomaly_detection(
        self, outputs, target_sizes: list[tuple[int, int]] | None = None, threshold: float | None = None
    ) -> list[dict]:
        """Scores and maps of a model's output, each map at its image's own size.

        Args:
            outputs: with `anomaly_scores` (B,) and `anomaly_maps` (B, S, S).
            target_sizes: (height, width) of each image; by default the maps keep their size.
            threshold: in [0, 1]; a score above it is labelled "anomalous".

        Returns:
            `list[dict]`: `score` (float in [0, 1]), `label` ("normal", "anomalous" or `None` without a threshold) and
            `anomaly_map` (float32 array (H, W) in [0, 1]).

        Raises:
            ValueError: for a threshold out of range, not one size an image, or scores that are not finite, as those of
                an image that the encoder could not take in half precision.
        """
        check_threshold(threshold)
        scores, maps = outputs.anomaly_scores.float().cpu(), outputs.anomaly_maps.float().cpu()
        if not (scores.isfinite().all() and maps.isfinite().all()):
            raise ValueError(
                "A score is not finite: the pixel values were not, or the image encoder overflows in half precision. "
                "Load the model in bfloat16 or float32."
            )
        target_sizes = [maps.shape[-2:]] * len(maps) if target_sizes is None else list(target_sizes)
        if len(target_sizes) != len(maps):
            raise ValueError(f"Expected {len(maps)} target sizes, one an image, got {len(target_sizes)}.")
        return [
            {"score": score, "label": label_of(score, threshold), "anomaly_map": resize_map(each.numpy(), size)}
            for score, each, size in zip(scores.tolist(), maps, target_sizes, strict=True)
        ]


def check_backend(backend: str | None):
    """Refuses a backend that there is not; transformers' Auto classes ask for none where the user does not."""
    if backend not in (None, BACKEND):
        raise ValueError(f"There is no backend {backend!r}: images are resized by PIL alone, as in training.")


def check_size_setting(size):
    """Refuses a size that keeps the ratio: the model takes images of one size."""
    given = {} if size is None else dict(size)
    if given.keys() != {"height", "width"}:
        raise ValueError(
            f"size must be the height and width of the model's input, or one number for both; got {given}. Images are "
            "resized to it whatever their ratio."
        )


__all__ = ["AdaptCLIPImageProcessor"]
