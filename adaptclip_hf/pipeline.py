"""`pipeline("anomaly-detection")`: images in, scores, maps and heatmaps out."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines.base import ChunkPipeline

from .engine.detector import AnomalyDetector, as_list_or_stream
from .engine.photo import Photo
from .engine.reference import open_profile
from .engine.view import Mosaic, View
from .modeling.prompt_bank import PromptBank
from .modeling.text_encoder import TextEmbeds
from .processing.image_loading import load_image, name_of
from .processing.image_processing_adaptclip import check_threshold

PARAMETERS = "normal_images, prompt_bank, profile, threshold, object_name, view, batch_size and num_workers"


class AnomalyDetectionPipeline(ChunkPipeline):
    """
    Finds anomalies in images: zero-shot, or few-shot with some normal images or a prompt bank.

    Example:

    ```python
    >>> from transformers import pipeline
    >>> from adaptclip_hf import DEFAULT_MODEL

    >>> detect = pipeline("anomaly-detection", model=DEFAULT_MODEL)
    >>> result = detect("part.jpg", normal_images=["ok1.jpg", "ok2.jpg"])
    >>> round(result["score"], 1), result["anomaly_map"].shape
    (0.5, (336, 336))
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

    def _sanitize_parameters(
        self,
        normal_images=None,
        prompt_bank=None,
        profile=None,
        threshold=None,
        object_name=None,
        view: View | None = None,
        **unknown,
    ):
        if unknown:
            raise TypeError(f"Unknown arguments {sorted(unknown)}; there are {PARAMETERS}.")
        check_threshold(threshold)
        if normal_images is not None and prompt_bank is not None:
            raise ValueError("Give normal_images or a prompt_bank, not both.")
        forward_parameters, postprocess_parameters = {}, {}
        if profile is not None:
            others = (normal_images, prompt_bank, threshold, object_name, view)
            profile = postprocess_parameters["profile"] = open_profile(profile, self.detector, *others)
            prompt_bank, object_name, view = profile.prompt_bank, profile.object_name, profile.view
        if normal_images is not None:
            forward_parameters["prompt_bank"] = self.encode_prompts(normal_images, view or View())
        elif prompt_bank is not None:
            forward_parameters["prompt_bank"] = self.detector.open_bank(prompt_bank, view or View())
        if object_name is not None:
            forward_parameters["text_embeds"] = self.encode_text(object_name)
        if threshold is not None:
            postprocess_parameters["threshold"] = threshold
        return {} if view is None else {"view": view}, forward_parameters, postprocess_parameters

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs: an image or a list or generator of images: whatever [`load_image`] reads.
            normal_images: normal images to compare with (encoded once, and kept until others are given), or
            prompt_bank: a [`PromptBank`], its file, or the Hub id of its repository, or
            profile: an [`InspectionProfile`], its folder or Hub id, in place of all else: it decides.
            threshold (`float`): in [0, 1]; sets the labels.
            object_name (`str`): the word for the object in the static prompts of this call.
            view: how images are looked at, whole or in tiles; a [`View`].
            batch_size (`int`): images (or tiles) at a time.

        Returns:
            For each image a `dict`: `score` (float in [0, 1]), `label` ("normal", "anomalous", or `None` without a
            threshold or profile), `p_value` and `regions` (with a profile, see [`DetectionResult`]), `anomaly_map`
            (float32 array (H, W) in [0, 1] of the image's own size), `heatmap` (the map over the image on a fixed
            scale), `among_normals` (the image is itself one of the normal ones: its score says nothing) and `path` (of
            a file, else `None`).

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

    def encode_prompts(self, normal_images, view: View = View()) -> PromptBank:  # noqa: B008
        """A [`PromptBank`] of normal images, on the pipeline's device; the same images again are not encoded again."""
        images = list(as_list_or_stream(normal_images))
        key = self._contents(images, view)
        remembered = self._remembered
        if remembered is None or remembered[0] != key:
            self._remembered = remembered = (key, self.detector.remember(images, view=view))
        return remembered[1]

    def encode_text(self, object_name: str) -> TextEmbeds:
        """Text embeddings for an object's name; the same name again is not encoded again."""
        key = (object_name, self.model.device, self.model.dtype, *self.model.text_key())
        named = self._named
        if named is None or named[0] != key:
            self._named = named = (key, self.detector.encode_text(object_name))
        return named[1]

    def _contents(self, images: list, view: View) -> str:
        """Tells other images, another model and other preprocessing apart: a digest of their contents."""
        digest = hashlib.sha256()
        for settings in (self.model.fingerprint(), self.detector.preprocessing(view)):
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

    def preprocess(self, image, view: View = View()) -> Iterator[dict]:  # noqa: B008
        """The pieces of an image, one after the other; the whole of it is the only one of most."""
        name, path = name_of(image), str(image) if isinstance(image, str | Path) else None
        image = load_image(image)
        photo = Photo(name, image, view.cut(image, name))
        for number, piece in enumerate(photo.pieces):
            about = {"photo": photo, "path": path, "number": number, "is_last": number == len(photo.pieces) - 1}
            yield {"pixel_values": self.detector.pixel_values(piece), **about}

    def _forward(self, model_inputs: dict, prompt_bank: PromptBank | None = None, text_embeds=None) -> dict:
        about = {name: model_inputs[name] for name in ("photo", "path", "number", "is_last")}
        features = self.detector.encode(model_inputs["pixel_values"])
        photos, numbers = (as_batch(about[name]) for name in ("photo", "number"))
        places = [(photo.pieces, number) for photo, number in zip(photos, numbers, strict=True)]
        scores, maps = self.detector.score_pieces(features, places, [prompt_bank] * len(places), text_embeds)
        few_shot = torch.full((len(scores),), prompt_bank is not None)
        return {"anomaly_scores": scores, "anomaly_maps": maps, "few_shot": few_shot, **about}

    def postprocess(self, outputs: list[dict], threshold: float | None = None, profile=None) -> dict:
        first = outputs[0]
        photo: Photo = first["photo"]
        mosaic = Mosaic(photo.pieces)
        for piece in outputs:
            [scored] = self.detector.to_host(piece["anomaly_scores"], piece["anomaly_maps"])
            mosaic.add(piece["number"], *scored)
        result = self.detector.result(photo.name, photo.image, mosaic, bool(first["few_shot"]), threshold)
        if profile is not None:
            result = profile.judge(result)
        return {
            "score": result.score,
            "label": result.label,
            "p_value": result.p_value,
            "regions": result.regions,
            "anomaly_map": result.anomaly_map,
            "heatmap": result.heatmap(),
            "among_normals": result.among_normals,
            "path": first["path"],
        }


def as_batch(value) -> list:
    """What a loader made of a batch; of one piece alone it makes no list."""
    return value if isinstance(value, list) else [value]


__all__ = ["AnomalyDetectionPipeline"]
