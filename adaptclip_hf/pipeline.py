"""`pipeline("anomaly-detection")`: images in, scores, maps and heatmaps out."""

import hashlib
from pathlib import Path

import torch
from PIL import Image
from transformers import Pipeline
from transformers.dynamic_module_utils import custom_object_save

from .engine.detector import AnomalyDetector, as_list_or_stream
from .modeling.fingerprint import contents_key
from .modeling.prompt_bank import PromptBank
from .modeling.text_encoder import TextEmbeds
from .processing.image_loading import load_image, name_of
from .processing.image_processing_adaptclip import check_threshold

PARAMETERS = "normal_images, prompt_bank, threshold, object_name, batch_size and num_workers"


class AnomalyDetectionPipeline(Pipeline):
    """
    Finds anomalies in images: zero-shot, or few-shot with some normal images or a prompt bank.

    Example:

    ```python
    >>> from transformers import pipeline
    >>> from adaptclip_hf import DEFAULT_MODEL

    >>> detect = pipeline("anomaly-detection", model=DEFAULT_MODEL)
    >>> result = detect("part.png", normal_images=["ok1.png", "ok2.png"])  # doctest: +SKIP
    >>> result["score"], result["anomaly_map"].shape  # doctest: +SKIP
    (0.83, (480, 640))
    ```
    """

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args, **kwargs):
        # the last normal images and object name, each with a key of all that its value depends on
        self._remembered: tuple[str, PromptBank] | None = None
        self._named: tuple[tuple, TextEmbeds] | None = None
        super().__init__(*args, **kwargs)

    @property
    def detector(self) -> AnomalyDetector:
        """The engine that scores, of this pipeline's model and processor."""
        return AnomalyDetector(self.model, self.processor)

    def _sanitize_parameters(self, normal_images=None, prompt_bank=None, threshold=None, object_name=None, **unknown):
        if unknown:
            raise TypeError(f"Unknown arguments {sorted(unknown)}; there are {PARAMETERS}.")
        check_threshold(threshold)
        if normal_images is not None and prompt_bank is not None:
            raise ValueError("Give normal_images or a prompt_bank, not both.")
        forward_parameters = {}
        if normal_images is not None:
            forward_parameters["prompt_bank"] = self.encode_prompts(normal_images)
        elif prompt_bank is not None:
            forward_parameters["prompt_bank"] = self.open_prompt_bank(prompt_bank)
        if object_name is not None:
            forward_parameters["text_embeds"] = self.encode_text(object_name)
        return {}, forward_parameters, {} if threshold is None else {"threshold": threshold}

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs: an image or a list or generator of images: whatever [`load_image`] reads.
            normal_images: normal images to compare with (encoded once, and kept until others are given), or
            prompt_bank: a [`PromptBank`], its file, or the Hub id of its repository.
            threshold (`float`): in [0, 1]; sets the labels.
            object_name (`str`): the word for the object in the static prompts of this call.
            batch_size (`int`): images at a time.

        Returns:
            For each image a `dict`: `score` (float in [0, 1]), `label` ("normal", "anomalous", or `None` without a
            threshold), `anomaly_map` (float32 array (H, W) in [0, 1] of the image's own size), `heatmap` (the map over
            the image on a fixed scale), `among_normals` (the image is itself one of the normal ones: its score says
            nothing) and `path` (of a file, else `None`).

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

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Pushes the pipeline's model, processor and card; see [`AdaptCLIPModel.push_to_hub`]."""
        return self.model.push_to_hub(repo_id, processor=self.processor, **options)

    def encode_prompts(self, normal_images) -> PromptBank:
        """A [`PromptBank`] of normal images, on the pipeline's device; the same images again are not encoded again."""
        images = list(as_list_or_stream(normal_images))
        key = self._contents(images)
        remembered = self._remembered
        if remembered is None or remembered[0] != key:
            self._remembered = remembered = (key, self.detector.remember(images))
        return remembered[1]

    def encode_text(self, object_name: str) -> TextEmbeds:
        """Text embeddings for an object's name; the same name again is not encoded again."""
        parts = (self.model.clip.text_model, self.model.clip.text_projection, self.model.textual_adapter)
        key = (object_name, self.model.device, self.model.dtype, *contents_key(*(part for part in parts if part)))
        named = self._named
        if named is None or named[0] != key:
            self._named = named = (key, self.detector.encode_text(object_name))
        return named[1]

    def _contents(self, images: list) -> str:
        """Tells other images, another model and other preprocessing apart: a digest of their contents."""
        digest = hashlib.sha256()
        for settings in (self.model.fingerprint(), self.processor.image_processor.fingerprint()):
            digest.update(repr(sorted(settings.items())).encode())
        digest.update(f"{self.model.device} {self.model.dtype}".encode())
        for image in images:
            if isinstance(image, str | Path) and Path(image).is_file():
                content = Path(image).read_bytes()
            else:
                picture = load_image(image)
                content = str(picture.size).encode() + picture.tobytes()
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()

    def open_prompt_bank(self, prompt_bank: PromptBank | str | Path) -> PromptBank:
        """The bank, read if it is a file, checked against this model and preprocessing, on the pipeline's device."""
        return self.detector.open_bank(prompt_bank)

    def preprocess(self, image) -> dict:
        name, path = name_of(image), str(image) if isinstance(image, str | Path) else None
        image = load_image(image)
        pixel_values = self.processor.image_processor(image)["pixel_values"]
        return {"pixel_values": pixel_values, "original": image, "path": path, "name": name}

    def _forward(self, model_inputs: dict, prompt_bank: PromptBank | None = None, text_embeds=None) -> dict:
        features = self.detector.encode(model_inputs["pixel_values"])
        scores, maps = self.detector.score(features, prompt_bank, text_embeds)
        about = {name: model_inputs[name] for name in ("original", "path", "name")}
        few_shot = torch.full((len(scores),), prompt_bank is not None)
        return {"anomaly_scores": scores, "anomaly_maps": maps, "few_shot": few_shot, **about}

    def postprocess(self, outputs: dict, threshold: float | None = None) -> dict:
        image: Image.Image = outputs["original"]
        [(score, model_map)] = self.detector.to_host(outputs["anomaly_scores"], outputs["anomaly_maps"])
        few_shot = bool(outputs["few_shot"])
        result = self.detector.result(outputs["name"], image, score, model_map, few_shot, threshold)
        return {
            "score": result.score,
            "label": result.label,
            "anomaly_map": result.anomaly_map,
            "heatmap": result.heatmap(),
            "among_normals": result.among_normals,
            "path": outputs["path"],
        }


__all__ = ["AnomalyDetectionPipeline"]
