"""The engine: remembers normal images once, scores any number of others."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, repeat
from operator import length_hint
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ..modeling.fingerprint import weights_digest
from ..modeling.modeling_adaptclip import AdaptCLIPModel, AdaptCLIPOutput
from ..modeling.prompt_bank import PromptBank, is_bank
from ..modeling.text_encoder import TextEmbeds
from ..modeling.vision_encoder import ImageFeatures
from ..processing.image_loading import load_image, name_of
from ..processing.image_processing_adaptclip import as_list, check_threshold, label_of
from ..processing.processing_adaptclip import AdaptCLIPProcessor
from .growing_bank import GrowingBank
from .result import DetectionResult

IMAGES_AT_ONCE = 8
BACKENDS = ("torch",)
# fields of the config that scores depend on
SCORE_FIELDS = (
    "image_size",
    "feature_layers",
    "num_dual_path_layers",
    "visual_adapter",
    "textual_adapter",
    "prompt_query_adapter",
    "prompt_query_context",
    "joint_learning",
    "temperature",
    "pooling_top_k",
    "smoothing_sigma",
    "peak_share",
    "score_fusion",
)
# a map's largest value where every patch of an image has its equal among the normal ones
NO_DISTANCE = 1e-4

# called with the name of an image that could not be read, and why
OnError = Callable[[str, Exception], None]
Banks = PromptBank | str | Path | Iterable[PromptBank] | None


@dataclass(frozen=True)
class AnomalyDetector:
    """A model and its processor as one; a call depends on its arguments alone and changes nothing.

    Any number of threads may share a detector. While it is in use the model's weights must not be changed.

    Example:

    ```python
    >>> from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector

    >>> detector = AnomalyDetector.from_pretrained(DEFAULT_MODEL)
    >>> bank = detector.remember(["ok1.png", "ok2.png"])  # doctest: +SKIP
    >>> [result] = detector.detect("part.png", prompt_bank=bank)  # doctest: +SKIP
    >>> result.score, result.anomaly_map.shape  # doctest: +SKIP
    (0.83, (480, 640))
    ```
    """

    model: AdaptCLIPModel
    processor: AdaptCLIPProcessor

    @classmethod
    def from_pretrained(
        cls, model: str | Path, backend: str = "torch", device=None, dtype: str | torch.dtype | None = None, **options
    ) -> "AnomalyDetector":
        """Loads model and processor.

        Args:
            model: "adaptclip-tiny", a folder or a Hub id.
            backend: "torch".
            device: such as "cpu" or "cuda:0"; a GPU where there is one by default.
            dtype: of the weights, such as "bfloat16"; the saved one by default.
            options: of [`AdaptCLIPModel.from_pretrained`]: `revision`, `token`, `object_name`, ...

        Raises:
            FileNotFoundError: no such folder or repository, or one that may not be read.
            ValueError: an unknown backend, a device that is not there; or as [`AdaptCLIPModel.from_pretrained`].
        """
        from .loading import choose_device, load_model_and_processor

        if backend not in BACKENDS:
            raise ValueError(f"There is no backend {backend!r}; there is {', '.join(BACKENDS)}.")
        device = choose_device(device)
        loaded, processor = load_model_and_processor(model, **({"dtype": dtype} if dtype else {}), **options)
        return cls(loaded.to(device).eval(), processor)

    @property
    def device(self) -> torch.device:
        return self.model.device

    def describe(self, object_name: str | None = None) -> dict:
        """All that a score depends on beside the image and the normal ones, as JSON has it."""
        config = self.model.config
        return {
            "weights": weights_digest(self.model),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.device.type,
            "object_name": object_name or config.object_name,
            **{name: getattr(config, name) for name in SCORE_FIELDS},
            "fingerprint": self.model.fingerprint(),
            "preprocessing": self.processor.image_processor.fingerprint(),
        }

    def remember(self, normal_images: Iterable, on_error: OnError | None = None, progress: bool = False) -> PromptBank:
        """Encodes normal images, which come as a stream: a few at a time are in memory, and their features.

        Args:
            normal_images: any iterable of what `load_image` reads.
            on_error: called for each image that cannot be read, which is then left out; an error without.
            progress: show a bar.

        Returns:
            [`PromptBank`]: on the model's device, in its dtype.

        Raises:
            FileNotFoundError, ValueError: an image cannot be read; or no image is left.
        """
        preprocessing = self.processor.image_processor.fingerprint()
        images, errors = as_list_or_stream(normal_images), []
        growing = GrowingBank(expected=length_hint(images))
        read = self._read(images, on_error)
        readable = (image for _, image, error in read if error is None or errors.append(error))
        with tqdm(desc="normal images", unit="image", disable=not progress) as bar, torch.no_grad():
            while batch := list(islice((self._pixel_values(image) for image in readable), IMAGES_AT_ONCE)):
                growing.add(self.model.encode_prompts(torch.cat(batch).to(self.device), preprocessing))
                bar.update(len(batch))
        if not growing.count:
            raise ValueError(f"At least one normal image that can be read is needed, got none. {' '.join(errors[:1])}")
        return growing.bank()

    def open_bank(self, prompt_bank: PromptBank | str | Path) -> PromptBank:
        """A bank, read if it is a file or Hub id, on the model's device.

        Raises:
            FileNotFoundError: no such file or repository.
            ValueError: it was made by another model or preprocessing; names what differs.
        """
        if isinstance(prompt_bank, str | Path):
            prompt_bank = PromptBank.from_pretrained(prompt_bank)
        prompt_bank.require_match(self.model.fingerprint(), self.processor.image_processor.fingerprint())
        return prompt_bank.to(self.device, self.model.dtype)

    @torch.no_grad()
    def encode_text(self, object_name: str | None = None) -> TextEmbeds:
        """Text embeddings for an object's name (the model's own by default), to score with any number of times.

        Raises:
            ValueError: a name that is too long for the text tower.
        """
        return self.model.encode_text(object_name, self.processor.tokenizer)

    @torch.inference_mode()
    def encode(self, pixel_values: torch.Tensor) -> ImageFeatures:
        """Features of pixel values (B, 3, S, S), to score with any number of banks."""
        return self.model.image_features(pixel_values.to(self.device))

    def score(
        self, features: ImageFeatures, prompt_bank: Banks = None, text_embeds: TextEmbeds | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (B,) and maps (B, S, S) of encoded images, in [0, 1], float32 on the model's device.

        Args:
            prompt_bank: `None` for zero-shot, a bank for the whole batch, or a list of B, one for each image.
            text_embeds: of [`~AnomalyDetector.encode_text`].

        Raises:
            ValueError: the bank of another model, or features that are not finite.
        """
        output = self.forward(image_features=features, prompt_bank=prompt_bank, text_embeds=text_embeds)
        return output.anomaly_scores, output.anomaly_maps

    @torch.inference_mode()
    def forward(self, **inputs) -> AdaptCLIPOutput:
        """The model's whole output for what its forward takes; everything that scores comes by here."""
        return self.model(**inputs)

    def detect(
        self, images, prompt_bank: Banks = None, object_name: str | None = None, **options
    ) -> list[DetectionResult]:
        """Scores images; one result each, in their order. Takes the arguments of [`~AnomalyDetector.stream`]."""
        results = self.stream(images, prompt_bank, object_name, **options)
        return [replace(result, image=None) for result in results]

    def stream(
        self,
        images: Iterable,
        prompt_bank: Banks = None,
        object_name: str | None = None,
        text_embeds: TextEmbeds | None = None,
        threshold: float | None = None,
        batch_size: int = 1,
        on_error: OnError | None = None,
    ) -> Iterator[DetectionResult]:
        """Scores images as they come, in memory that does not grow with their number.

        Args:
            images: any iterable of what `load_image` reads.
            prompt_bank: `None` for zero-shot, one [`PromptBank`] (or its file or Hub id), or one for each image (a
                list, or as lazy as the images).
            object_name: the word for the object in the static prompts, encoded for this call, or
            text_embeds: those that [`~AnomalyDetector.encode_text`] made of it before.
            threshold: in [0, 1]; sets the labels.
            batch_size: images at a time; touches the last bits of scores.
            on_error: called for each image that cannot be read, whose result then has an `error`; an error without.

        Raises:
            FileNotFoundError, ValueError: name the image or argument and what was expected.
        """
        check_threshold(threshold)
        if object_name is not None and text_embeds is not None:
            raise ValueError("Give object_name or text_embeds, not both.")
        text_embeds = self.encode_text(object_name) if text_embeds is None else text_embeds
        if isinstance(prompt_bank, str | Path):
            prompt_bank = self.open_bank(prompt_bank)
        one_bank = prompt_bank is None or is_bank(prompt_bank)
        read = self._with_banks(self._read(as_list_or_stream(images), on_error), prompt_bank, one_bank)
        while batch := list(islice(read, batch_size)):
            yield from self._score_batch(batch, one_bank, text_embeds, threshold)

    def _with_banks(self, read: Iterator, prompt_bank: Banks, one_bank: bool) -> Iterator[tuple]:
        """Each image that was read and its bank; another model's is refused, and another number of them."""
        made_by = None
        if prompt_bank is not None:
            made_by = self.model.fingerprint(), self.processor.image_processor.fingerprint()
        banks = repeat(prompt_bank) if one_bank else iter(prompt_bank)
        for item in read:
            bank = next(banks, None)
            if is_bank(bank):
                bank.require_match(*made_by)
            elif not one_bank:
                raise ValueError(f"Expected a PromptBank for each image, got {type(bank).__name__} for {item[0]}.")
            yield item, bank
        if not one_bank and next(banks, None) is not None:
            raise ValueError("Expected a PromptBank for each image, got more banks than images.")

    def _read(self, images: Iterable, on_error: OnError | None) -> Iterator[tuple[str, Image.Image | None, str | None]]:
        """Name, image and error of each; one of the last two is `None`."""
        for source in images:
            try:
                yield name_of(source), load_image(source), None
            except (OSError, ValueError) as error:
                if on_error is None:
                    raise
                on_error(name_of(source), error)
                yield name_of(source), None, str(error)

    def _pixel_values(self, image: Image.Image) -> torch.Tensor:
        return self.processor.image_processor(image)["pixel_values"]

    def _score_batch(
        self, batch: list[tuple], one_bank: bool, text_embeds: TextEmbeds, threshold: float | None
    ) -> Iterator[DetectionResult]:
        readable = [(image, bank) for (_, image, _), bank in batch if image is not None]
        scored: Iterator[tuple[float, np.ndarray]] = iter(())
        if readable:
            images, banks = zip(*readable, strict=True)
            features = self.encode(torch.cat([self._pixel_values(image) for image in images]))
            scored = self.to_host(*self.score(features, banks[0] if one_bank else list(banks), text_embeds))
        for (name, image, error), bank in batch:
            if image is None:
                yield DetectionResult(name, error=error)
            else:
                score, model_map = next(scored)
                yield self.result(name, image, score, model_map, bank is not None, threshold)

    def to_host(self, scores: torch.Tensor, maps: torch.Tensor) -> Iterator[tuple[float, np.ndarray]]:
        """Each image's score and map (S, S), off the device.

        Raises:
            ValueError: a score that is not finite.
        """
        scores, maps = scores.float().cpu(), maps.float().cpu()
        if not scores.isfinite().all():
            raise ValueError(
                f"A score is not finite: the image encoder overflows in {self.model.dtype}. Load the model in bfloat16 "
                "or float32."
            )
        return zip(scores.tolist(), maps.numpy(), strict=True)

    def result(
        self,
        name: str,
        image: Image.Image,
        score: float,
        model_map: np.ndarray,
        few_shot: bool,
        threshold: float | None,
    ) -> DetectionResult:
        """The result of one image of its score and map."""
        harmonic = self.model.config.score_fusion == "harmonic"
        return DetectionResult(
            name,
            score,
            label_of(score, threshold),
            model_map,
            (image.height, image.width),
            among_normals=few_shot and harmonic and float(model_map.max()) < NO_DISTANCE,
            image=image,
        )


def as_list_or_stream(images) -> Iterable:
    """One image as a list of it, a batch as its images; lists and any other iterable as they are.

    Raises:
        ValueError: an empty list.
    """
    one_image = isinstance(images, str | Path | bytes | bytearray | dict | Image.Image | np.ndarray | torch.Tensor)
    return as_list(images) if one_image or isinstance(images, list | tuple) or not iterable(images) else images


def iterable(value) -> bool:
    return isinstance(value, Iterable) or hasattr(value, "__getitem__")


__all__ = ["AnomalyDetector"]
