"""Processor class for AdaptCLIP: images, prompt images, masks and text."""

from pathlib import Path

from transformers import BatchFeature
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, Unpack

from .image_lists import as_list
from .image_processing_adaptclip import AdaptCLIPImageProcessor, check_backend
from .processor_files import HUB_ARGUMENTS, image_settings, load_tokenizer

FILES = ("processor_config.json", "tokenizer.json")


class AdaptCLIPProcessor(ProcessorMixin):
    """
    Everything the model reads, in one call: images and their masks, normal prompt images, and sentences.

    Args:
        image_processor (`AdaptCLIPImageProcessor`)
        tokenizer (`CLIPTokenizer`): the one that belongs to the CLIP.
    """

    text_kwargs = {"padding": True, "return_tensors": "pt"}

    def __init__(self, image_processor=None, tokenizer=None, **kwargs):
        super().__init__(image_processor, tokenizer, **kwargs)

    @classmethod
    def for_model(cls, config, tokenizer) -> "AdaptCLIPProcessor":
        """The processor that belongs to a model of this [`AdaptCLIPConfig`]."""
        size = {"height": config.image_size, "width": config.image_size}
        return cls(AdaptCLIPImageProcessor(size=size), tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *,
        image_processor=None,
        tokenizer=None,
        backend: str | None = None,
        **kwargs,
    ) -> "AdaptCLIPProcessor":
        """Loads the processor from a folder or the Hub.

        Args:
            image_processor, tokenizer: in place of those of the folder.
            kwargs: settings of the image processor that replace those of the file, and the usual arguments of a
                download (`revision`, `subfolder`, `token`, ...) and of a tokenizer.

        Raises:
            OSError: for a folder that lacks one of its files, by its name.
            ValueError: a file is damaged, or chooses what it may not; names the file and the setting. Or another
                backend than "pil".
        """
        check_backend(backend)
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            folder /= kwargs.get("subfolder") or ""
            if missing := [name for name in FILES if not (folder / name).is_file()]:
                raise OSError(f"No processor at {folder}: it lacks {', '.join(missing)}, which save_pretrained writes.")
        hub = {key: kwargs[key] for key in HUB_ARGUMENTS if key in kwargs}
        own = AdaptCLIPImageProcessor.valid_kwargs.__annotations__
        if image_processor is None:
            settings = image_settings(pretrained_model_name_or_path, **hub)
            settings |= {key: value for key, value in kwargs.items() if key in own}
            image_processor = AdaptCLIPImageProcessor(**settings)
        if tokenizer is None:
            others = {key: value for key, value in kwargs.items() if key not in own and not key.startswith("_")}
            tokenizer = load_tokenizer(pretrained_model_name_or_path, **others)
        return cls(image_processor, tokenizer)

    def __call__(
        self, images=None, text=None, prompt_images=None, masks=None, **kwargs: Unpack[ProcessingKwargs]
    ) -> BatchFeature:
        """
        Args:
            images: one image or a list: paths, URLs, PIL images of any mode, arrays or tensors.
            text: sentences, such as those of `config.text_prompts("bottle")`, to `input_ids` and `attention_mask`.
            prompt_images: for each image the list of its k normal images; for a single image one such list. Normal
                images that serve a whole batch go through `model.encode_prompts` once instead.
            masks: one mask an image.
            kwargs: settings of the image processor and the tokenizer for this call, as any processor takes them:
                `text_kwargs={"truncation": True, "max_length": 77}`, `images_kwargs={"size": 84}`, or without these.
                Tensors are returned and sentences are padded if nothing else is asked for.

        Returns:
            `BatchFeature`: `pixel_values` (B, 3, S, S), `prompt_pixel_values` (B, k, 3, S, S), `mask_labels` (B, S, S),
            `input_ids` and `attention_mask` (N, T), each where its argument was given.

        Raises:
            FileNotFoundError, TypeError, ValueError: name the file or argument and what was expected.
        """
        if images is None and text is None:
            raise ValueError("Expected images, text or both.")
        if isinstance(text, list | tuple) and not text:
            raise ValueError("Expected at least one sentence, got an empty list.")
        if images is None and (masks is not None or prompt_images is not None):
            raise ValueError("masks and prompt_images belong to images: give those too.")
        settings = self._merge_kwargs(tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        features = BatchFeature()
        if images is not None:
            images = as_list(images)
            features.update(self.image_processor(images, masks=masks, **settings["images_kwargs"]))
        if prompt_images is not None:
            groups = self.prompt_groups(prompt_images, len(images))
            flat = [image for group in groups for image in group]
            pixel_values = self.image_processor(flat, **settings["images_kwargs"])["pixel_values"]
            features["prompt_pixel_values"] = in_groups(pixel_values, len(groups))
        if text is not None:
            features.update(self.tokenizer(text, **settings["text_kwargs"]))
        return features

    @staticmethod
    def prompt_groups(prompt_images, batch_size: int) -> list[list]:
        """The normal images of each query, as many for one as for another."""
        groups = [as_list(group) for group in as_list(prompt_images)]
        if batch_size == 1 and all(len(group) == 1 for group in groups):
            groups = [[group[0] for group in groups]]
        if len(groups) != batch_size or len({len(group) for group in groups}) != 1:
            raise ValueError(
                f"Expected for each of {batch_size} images a list of as many prompt images, got lists of "
                f"{[len(group) for group in groups]}. Normal images for a whole batch go through model.encode_prompts."
            )
        return groups

    def post_process_anomaly_detection(self, outputs, target_sizes=None, threshold: float | None = None) -> list[dict]:
        """See [`AdaptCLIPImageProcessor.post_process_anomaly_detection`]."""
        return self.image_processor.post_process_anomaly_detection(outputs, target_sizes, threshold)


def in_groups(pixel_values, count: int):
    """(count * k, 3, S, S) as (count, k, 3, S, S); a list as lists of k."""
    if not isinstance(pixel_values, list):
        return pixel_values.reshape(count, -1, *pixel_values.shape[1:])
    size = len(pixel_values) // count
    return [pixel_values[first : first + size] for first in range(0, len(pixel_values), size)]


__all__ = ["AdaptCLIPProcessor"]
