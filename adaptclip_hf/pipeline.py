"""`pipeline("anomaly-detection")`: images in, scores, maps and heatmaps out."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines.base import ChunkPipeline

from .engine.appearance import appearance_of
from .engine.augments import AUTO
from .engine.images import as_list_or_stream
from .engine.reference import GIVE_ALONE, PlainReference, PreparedReference, Reference
from .engine.scorer import AnomalyScorer
from .engine.scoring import compare, join, tile_inputs
from .engine.tiles import TileMerger, View
from .engine.variations import knowing_variations, ready_to_search
from .modeling.checks import needs_the_package
from .modeling.fingerprint import ContentMemo
from .modeling.normal_variation import NormalVariation
from .modeling.prompt_bank import PromptBank
from .modeling.text_encoder import TextEmbeds
from .processing.image_lists import is_one_image
from .processing.image_loading import load_image
from .processing.thresholds import check_threshold

PARAMETERS = "normal_images, prompt_bank, profile, threshold, object_name, view, augment, batch_size and num_workers"


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
    (0.4, (336, 336))
    ```
    """

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args, **kwargs) -> None:
        self._memo = ContentMemo()  # of the last normal images and the last object name
        super().__init__(*args, **kwargs)

    @property
    def scorer(self) -> AnomalyScorer:
        """The engine, with this pipeline's model and processor."""
        return AnomalyScorer(self.model, self.processor)

    def _sanitize_parameters(
        self,
        normal_images=None,
        prompt_bank=None,
        profile=None,
        threshold=None,
        object_name=None,
        view=None,
        augment=None,
        **unknown,
    ):
        if unknown:
            raise TypeError(f"Unknown arguments {sorted(unknown)}; there are {PARAMETERS}.")
        check_threshold(threshold)
        if normal_images is not None and prompt_bank is not None:
            raise ValueError("Give normal_images or a prompt_bank, not both.")
        if augment is not None and normal_images is None:
            raise ValueError("augment makes copies of normal_images: give both.")
        forward_parameters, postprocess_parameters = {}, {}
        given = any(each is not None for each in (normal_images, prompt_bank, threshold, object_name, view))
        decision = getattr(self, "_postprocess_params", {}).get("decision")  # of this pipeline, if it is made
        has_profile = decision is not None and not isinstance(decision, PlainReference)
        if given and (profile is not None or has_profile):
            raise ValueError(GIVE_ALONE)
        if profile is not None:
            forward_parameters["text_embeds"] = None  # not those that the pipeline was made with
            profile = postprocess_parameters["decision"] = open_profile(profile)
            profile.require_match(self.scorer)
            forward_parameters["needs_appearance"] = profile.needs_appearance
            prompt_bank, object_name, view = profile.prompt_bank, profile.object_name, profile.view
        if normal_images is not None:
            prompt_bank = self.encode_prompts(normal_images, view or View(), augment or AUTO)
        elif prompt_bank is not None:
            prompt_bank = self.open_prompt_bank(prompt_bank, view or View())
        if prompt_bank is not None:
            forward_parameters |= self.compared(prompt_bank, view or View())
        if object_name is not None:
            forward_parameters["text_embeds"] = self.encode_text(object_name)
        if threshold is not None:
            postprocess_parameters["decision"] = PlainReference(threshold=threshold)
        return {} if view is None else {"view": view}, forward_parameters, postprocess_parameters

    def __call__(self, inputs, **kwargs):
        """
        Args:
            inputs: an image, or a list, tuple, batch, column of a data set or generator of images: whatever
                [`load_image`] reads.
            normal_images: normal images to compare with (encoded once, and kept until others are given), or
            prompt_bank: a [`PromptBank`], its file, or the Hub id of its repository, or
            profile: an [`InspectionProfile`], its folder or Hub id, in place of all else: it decides.
            threshold (`float`): in [0, 1]; sets the labels.
            object_name (`str`): the word for the object in the static prompts of this call.
            view: how images are looked at, whole or in tiles; a [`View`].
            augment (`str`): copies of `normal_images` that are compared with too: "auto" (by default), "none",
                "rotations" or "flips", see [`AnomalyScorer.remember`].
            batch_size (`int`): images (or tiles) at a time.

        Returns:
            For each image a `dict`: `score` (float in [0, 1]), `label` ("normal", "anomalous", "not inspectable", or
            `None` without a threshold or profile), `margin` (the score over the threshold, likewise), `reason`,
            `p_value` and `regions` (with a profile, see [`DetectionResult`]), `anomaly_map` (float32 array (H, W) in
            [0, 1] of the image's own size), `heatmap` (the map over the image; with a profile colours begin at what the
            maps of good photos reach), `among_normals` (the image is itself one of the normal ones: its score means
            nothing) and `path` (of a file, else `None`).

        Raises:
            FileNotFoundError, ValueError: name the file or argument and what was expected.
        """
        if is_batch(inputs):
            return list(super().__call__((image for image in inputs), **kwargs))
        return super().__call__(inputs, **kwargs)

    def save_pretrained(self, save_directory: str | Path, **kwargs):
        """Saves model and processor; the folder loads with `pipeline("anomaly-detection", model=save_directory)`."""
        if self.model._auto_class is not None:  # loaded with its code, which goes along
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            custom_object_save(self, save_directory)
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Pushes the pipeline's model, processor and card; see [`AdaptCLIPModel.push_to_hub`]."""
        return self.model.push_to_hub(repo_id, processor=self.processor, **options)

    def encode_prompts(self, normal_images, view: View = View(), augment: str = AUTO) -> PromptBank:
        """A [`PromptBank`] of normal images, on the pipeline's device; the same images again are not encoded again."""
        images = list(as_list_or_stream(normal_images))
        key = (self._contents(images, view), augment)
        return self._memo.value("normal_images", key, lambda: self.scorer.remember(images, view=view, augment=augment))

    def encode_text(self, object_name: str) -> TextEmbeds:
        """Text embeddings for an object's name; the same name again is not encoded again."""
        key = (object_name, self.model.device, self.model.dtype, *self.model.text_key())
        return self._memo.value("object_name", key, lambda: self.scorer.encode_text(object_name))

    def _contents(self, images: list, view: View) -> str:
        """Tells other images, another model and other preprocessing apart: a digest of their contents."""
        digest = hashlib.sha256()
        for settings in (self.model.fingerprint(), self.scorer.preprocessing(view)):
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

    def open_prompt_bank(self, prompt_bank: PromptBank | str | Path, view: View = View()) -> PromptBank:
        """The bank, read if it is a file, checked against this model and preprocessing, on the pipeline's device."""
        if isinstance(prompt_bank, str | Path):
            prompt_bank = PromptBank.from_pretrained(prompt_bank)
        self.scorer.require_match(prompt_bank, view)
        return prompt_bank.to(self.model.device, self.model.dtype)

    def compared(self, prompt_bank: PromptBank, view: View) -> dict:
        """What images are compared with: the bank, and how its images differ from one another, if scores use it."""
        plain = PreparedReference(PlainReference(view=view), prompt_bank, TextEmbeds())
        if self.model.config.normal_variation and prompt_bank.variation is None:
            key = (prompt_bank.digest(), view.key(), self.model.device, self.model.dtype)
            plain = self._memo.value("variations", key, lambda: knowing_variations(self.model, plain))
        settings = (self.model.device, self.model.dtype, self.model.config.normal_variation, view.key())
        plain = self._memo.value("ready_to_search", (*settings, prompt_bank), lambda: ready_to_search(plain))
        return {"prompt_bank": plain.prompt_bank, "variations": plain.variations, "places": plain.places}

    def preprocess(self, image, view: View = View()) -> Iterator[dict]:
        """The tiles of an image, one after the other; most images are one tile."""
        path = str(image) if isinstance(image, str | Path) else None
        loaded = self.scorer.reader.load(image, view)
        for each in tile_inputs(self.scorer.reader, loaded):
            about = {"image": loaded, "path": path, "tile": each.tile}
            yield {"pixel_values": each.pixel_values, **about, "is_last": each.tile.number == len(loaded.tiles) - 1}

    def _forward(
        self,
        model_inputs: dict,
        prompt_bank: PromptBank | None = None,
        variations: tuple[NormalVariation, ...] = (),
        places: tuple[PromptBank, ...] = (),
        text_embeds: TextEmbeds | None = None,
        needs_appearance: bool = False,
    ) -> dict:
        features = self.scorer.encode(model_inputs["pixel_values"])
        tiles = as_batch(model_inputs["tile"])
        text_embeds = self.scorer.encode_text() if text_embeds is None else text_embeds
        plain = PlainReference(view=tiles[0].tiles.view)  # a call has one view
        reference = PreparedReference(plain, prompt_bank, text_embeds, variations, places)
        scores = compare(self.model, features, tiles, [reference] * len(tiles))
        about = {name: model_inputs[name] for name in ("image", "path", "tile", "is_last")}
        seen: list[np.ndarray | None] = [None] * len(tiles)
        if needs_appearance:
            processor, values = self.processor.image_processor, model_inputs["pixel_values"]
            seen = [appearance_of(self.model, processor, values[[n]], features, n) for n in range(len(tiles))]
        return {"scores": scores, "references": [reference] * len(tiles), "appearances": seen, **about}

    def postprocess(self, outputs: list[dict], decision: Reference = PlainReference()) -> dict:
        image, path, reference = (as_batch(outputs[0][name])[0] for name in ("image", "path", "references"))
        merger = TileMerger(image.tiles)
        for each in outputs:
            [tile], [tile_score] = as_batch(each["tile"]), as_batch(each["scores"])
            merger.add(tile.number, *tile_score)
            [appearance] = as_batch(each["appearances"])
            if appearance is not None:
                merger.see(np.ravel(appearance))  # transformers adds an axis to arrays of a batch
        result = join(self.model, merger, replace(reference, reference=decision), image.name, image.image)
        return {
            "score": result.score,
            "label": result.label,
            "reason": result.reason,
            "p_value": result.p_value,
            "margin": result.margin,
            "regions": result.regions,
            "anomaly_map": result.anomaly_map,
            "heatmap": result.heatmap(),
            "among_normals": result.among_normals,
            "path": path,
        }


def is_batch(inputs) -> bool:
    """Whether several images are given, in a form that transformers' pipelines take for one."""
    if isinstance(inputs, list | Iterator | Dataset):
        return False
    return not is_one_image(inputs) or getattr(inputs, "ndim", 0) == 4


def as_batch(value) -> list:
    """A batch of the loader as a list; for a single tile the loader makes no list."""
    return value if isinstance(value, list) else [value]


def open_profile(profile) -> Reference:
    """An inspection profile, read if it is a folder or Hub id.

    Raises:
        ImportError: only the model's own code is here, and not the package that profiles belong to.
    """
    if not isinstance(profile, str | Path):
        return profile
    try:
        from adaptclip_hf.inspection import InspectionProfile
    except ImportError as error:
        raise needs_the_package("profile") from error
    return InspectionProfile.from_pretrained(profile)


__all__ = ["AnomalyDetectionPipeline"]
