"""`pipeline("anomaly-detection")`: images in, scores, maps and heatmaps out."""

from pathlib import Path

from PIL import Image
from transformers import Pipeline
from transformers.dynamic_module_utils import custom_object_save

from .heatmap import render_heatmap
from .modeling.modeling_adaptclip import AdaptCLIPOutput
from .modeling.prompt_bank import PromptBank
from .processing.image_loading import load_image
from .processing.image_processing_adaptclip import as_list, check_threshold


class AnomalyDetectionPipeline(Pipeline):
    """
    Finds anomalies in images: zero-shot, or few-shot with some normal images or a prompt bank.

    Example:

    ```python
    >>> from transformers import pipeline
    >>> from adaptclip_hf import DEFAULT_MODEL

    >>> detect = pipeline("anomaly-detection", model=DEFAULT_MODEL)
    >>> result = detect("part.png", normal_images=["ok1.png", "ok2.png"], threshold=0.5)  # doctest: +SKIP
    >>> result["score"], result["label"], result["anomaly_map"].shape  # doctest: +SKIP
    (0.83, 'anomalous', (480, 640))
    ```
    """

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def _sanitize_parameters(self, normal_images=None, prompt_bank=None, threshold=None, object_name=None, **unknown):
        if unknown:
            raise TypeError(
                f"Unknown arguments {sorted(unknown)}; there are normal_images, prompt_bank, threshold, object_name, "
                "batch_size and num_workers."
            )
        check_threshold(threshold)
        if normal_images is not None and prompt_bank is not None:
            raise ValueError("Give normal_images or a prompt_bank, not both.")
        if object_name is not None and object_name != self.model.config.object_name:
            self.model.set_object_name(object_name, self.processor.tokenizer)
        forward_parameters = {}
        if normal_images is not None:
            forward_parameters["prompt_bank"] = self.encode_prompts(normal_images)
        elif prompt_bank is not None:
            forward_parameters["prompt_bank"] = self.open_prompt_bank(prompt_bank)
        return {}, forward_parameters, {} if threshold is None else {"threshold": threshold}

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs: an image or a list or generator of images: paths, URLs, PIL images, arrays or tensors.
            normal_images: normal images to compare with (encoded once), or
            prompt_bank: a [`PromptBank`], its file, or the Hub id of its repository.
            threshold (`float`): in [0, 1]; sets the labels.
            object_name (`str`): the word for the object in the static prompts; stays until it is set again.
            batch_size (`int`): images at a time.

        Returns:
            For each image a `dict`: `score` (float in [0, 1]), `label` ("normal", "anomalous", or `None` without a
            threshold), `anomaly_map` (float32 array (H, W) in [0, 1] of the image's own size), `heatmap` (the map over
            the image on a fixed scale) and `path` (of a file, else `None`).

        Raises:
            FileNotFoundError, ValueError: name the file or argument and what was expected.
        """
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs):
        """Saves model and processor; the folder loads with `pipeline("anomaly-detection", model=save_directory)`."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)
        if self.model._auto_class is not None:  # loaded with its code, which goes along
            custom_object_save(self, save_directory)

    def encode_prompts(self, normal_images) -> PromptBank:
        """A [`PromptBank`] of normal images, on the pipeline's device."""
        image_processor = self.processor.image_processor
        pixel_values = image_processor(as_list(normal_images))["pixel_values"]
        with self.device_placement():
            return self.model.encode_prompts(pixel_values.to(self.device), image_processor.fingerprint())

    def open_prompt_bank(self, prompt_bank: PromptBank | str | Path) -> PromptBank:
        """The bank, read if it is a file, checked against this model and preprocessing, on the pipeline's device."""
        if not isinstance(prompt_bank, PromptBank):
            prompt_bank = PromptBank.from_pretrained(prompt_bank)
        prompt_bank.require_match(self.model.fingerprint(), self.processor.image_processor.fingerprint())
        return prompt_bank.to(self.model.device, self.model.dtype)

    def preprocess(self, image) -> dict:
        path = str(image) if isinstance(image, str | Path) else None
        image = load_image(image)
        pixel_values = self.processor.image_processor(image)["pixel_values"]
        return {"pixel_values": pixel_values, "original": image, "path": path}

    def _forward(self, model_inputs: dict, prompt_bank: PromptBank | None = None) -> dict:
        outputs = self.model(model_inputs["pixel_values"], prompt_bank=prompt_bank)
        return {
            "anomaly_scores": outputs.anomaly_scores,
            "anomaly_maps": outputs.anomaly_maps,
            "original": model_inputs["original"],
            "path": model_inputs["path"],
        }

    def postprocess(self, outputs: dict, threshold: float | None = None) -> dict:
        image: Image.Image = outputs["original"]
        output = AdaptCLIPOutput(anomaly_scores=outputs["anomaly_scores"], anomaly_maps=outputs["anomaly_maps"])
        [result] = self.processor.post_process_anomaly_detection(output, [(image.height, image.width)], threshold)
        return {**result, "heatmap": render_heatmap(image, result["anomaly_map"]), "path": outputs["path"]}


__all__ = ["AnomalyDetectionPipeline"]
