"""`AnomalyDetector`: the engine, which opens models, banks and profiles by their names."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from .engine import AnomalyScorer, PlainReference, Reference, Result, View
from .engine.fast_layers import use_fast_layers
from .engine.images import OnError, ReadImage, UnreadableImage, as_list_or_stream
from .engine.reference import GIVE_ALONE, PreparedReference
from .engine.tiles import is_whole
from .hub_access import HUB_ID, reaching
from .inspection import InspectionProfile
from .loading import AUTO_DTYPE, choose_device, choose_dtype, load_model_and_processor
from .model_files import is_exported
from .modeling.modeling_adaptclip import AdaptCLIPModel
from .modeling.prompt_bank import PromptBank, is_bank
from .modeling.text_encoder import TextEmbeds
from .processing.thresholds import check_threshold

BACKENDS = ("torch", "onnx", "openvino")

Bank = PromptBank | str | Path


@dataclass(frozen=True)
class AnomalyDetector(AnomalyScorer):
    """A model and its processor as one, which opens models, banks and profiles by their names.

    A call depends on its arguments alone and changes nothing. Any number of threads may share a detector. The model's
    weights must not change while it is in use.

    Example:

    ```python
    >>> from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector

    >>> detector = AnomalyDetector.from_pretrained(DEFAULT_MODEL)
    >>> bank = detector.remember(["ok1.jpg", "ok2.jpg"])
    >>> [result] = detector.detect("part.jpg", prompt_bank=bank)
    >>> round(result.score, 1), result.anomaly_map.shape
    (0.4, (336, 336))
    ```
    """

    # the name and the options that the model was loaded with
    source: tuple[str | Path, dict[str, Any]] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        backend: str | None = None,
        device: str | int | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        **options,
    ) -> "AnomalyDetector":
        """Loads model and processor.

        Args:
            model: "adaptclip-tiny", a folder or a Hub id.
            backend: "torch", "onnx" or "openvino": what the folder must be made for; by default anything.
            device: such as "cpu" or "cuda:0"; a GPU where there is one by default.
            dtype: of the weights, such as "bfloat16"; the saved one by default. "auto": what this machine computes
                fastest; scores then differ in the third digit.
            options: of [`AdaptCLIPModel.from_pretrained`]: `revision`, `token`, `object_name`, ...; of a folder that
                `adaptclip export` wrote, see [`ExportedAdaptCLIP.from_pretrained`].

        Raises:
            FileNotFoundError: no such folder or repository, or one that may not be read.
            ValueError: another backend than the folder's, a device that is not there; or as
                [`AdaptCLIPModel.from_pretrained`].
        """
        if backend not in (None, *BACKENDS):
            raise ValueError(f"There is no backend {backend!r}; there is {', '.join(BACKENDS)}.")
        if is_exported(model):
            options["device"] = device
        else:
            device = choose_device(device)
            dtype = choose_dtype(device) if dtype == AUTO_DTYPE else dtype
            options.setdefault("text_tower", False)
        loaded, processor = load_model_and_processor(model, **({"dtype": dtype} if dtype else {}), **options)
        detector = cls(loaded.to(device).eval(), processor, (model, options))
        if detector.backend == BACKENDS[0]:
            use_fast_layers(detector.model)
        if backend not in (None, detector.backend):
            raise ValueError(
                f"{model} is for the backend {detector.backend!r}, not {backend!r}: `adaptclip export --format` writes "
                "a model for another one (onnx, openvino, torch)."
            )
        return detector

    def encode_text(self, object_name: str | None = None) -> TextEmbeds:
        """Text embeddings for an object's name (the model's own by default), to score with any number of times.

        A text tower that was not loaded with the model is loaded for this call.

        Raises:
            OSError, ValueError: a name that is too long for the text tower; or the tower's model is no longer there.
        """
        lacks_tower = isinstance(self.model, AdaptCLIPModel) and self.model.clip.text_model is None
        if self.source is None or not lacks_tower or object_name in (None, self.model.config.object_name):
            return super().encode_text(object_name)
        name, options = self.source
        whole, processor = load_model_and_processor(name, **options | {"text_tower": True, "dtype": self.model.dtype})
        if whole.weights_digest() != self.model.weights_digest():
            raise ValueError(f"{name} is no longer the model that was loaded from there: load it anew.")
        return AnomalyScorer(whole.to(self.device), processor).encode_text(object_name)

    def open_bank(self, prompt_bank: Bank, view: View = View()) -> PromptBank:
        """A bank, read if it is a file or Hub id, on the model's device.

        Raises:
            FileNotFoundError: no such file or repository.
            ValueError: it was made by another model or preprocessing; names what differs.
        """
        if isinstance(prompt_bank, str | Path):
            prompt_bank = read_bank(prompt_bank)
        self.require_match(prompt_bank, view)
        return prompt_bank.to(self.device, self.model.dtype)

    def reference(
        self,
        prompt_bank: Bank | None = None,
        object_name: str | None = None,
        text_embeds: TextEmbeds | None = None,
        threshold: float | None = None,
        profile: Reference | str | Path | None = None,
        view: View | None = None,
    ) -> Reference:
        """Opens and checks what images are scored against, for any number of calls.

        Args:
            prompt_bank: `None` for zero-shot, or a [`PromptBank`], its file or Hub id.
            object_name: the word for the object in the static prompts.
            text_embeds: of [`~AnomalyDetector.encode_text`], in place of an object's name.
            threshold: in [0, 1]; a score above it is labelled anomalous.
            profile: an [`InspectionProfile`], its folder or Hub id, in place of all else: results then have a p-value,
                a label and regions. Any other [`Reference`] may stand here too.
            view: how images are looked at, as the bank's were; by default [`View`]`()`.

        Raises:
            FileNotFoundError, ValueError: name the argument and what was expected.
        """
        check_threshold(threshold)
        if object_name is not None and text_embeds is not None:
            raise ValueError("Give object_name or text_embeds, not both.")
        if profile is not None:
            if any(each is not None for each in (prompt_bank, object_name, text_embeds, threshold, view)):
                raise ValueError(GIVE_ALONE)
            return InspectionProfile.from_pretrained(profile) if isinstance(profile, str | Path) else profile
        if isinstance(prompt_bank, str | Path):
            prompt_bank = read_bank(prompt_bank)
        return PlainReference(prompt_bank, object_name, view or View(), threshold, text_embeds)

    def detect(
        self, images, prompt_bank: Bank | Iterable[PromptBank] | None = None, object_name: str | None = None, **options
    ) -> list[Result]:
        """Scores images; one result each, in their order. Takes the arguments of [`~AnomalyDetector.stream`]."""
        results = self.stream(images, prompt_bank, object_name, **options)
        return [result if isinstance(result, UnreadableImage) else replace(result, image=None) for result in results]

    def stream(
        self,
        images: Iterable,
        prompt_bank: Bank | Iterable[PromptBank] | None = None,
        object_name: str | None = None,
        *,
        batch_size: int = 1,
        on_error: OnError | None = None,
        **question: Any,
    ) -> Iterator[Result]:
        """Scores images as they come, in memory that does not grow with their number.

        Args:
            images: any iterable of what `load_image` reads.
            prompt_bank: `None` for zero-shot, one [`PromptBank`] (or its file or Hub id), or one for each image (a
                list, or as lazy as the images).
            object_name: the word for the object in the static prompts, encoded for this call.
            batch_size: images at a time; touches the last bits of scores.
            on_error: called for each image that cannot be read, whose place an [`UnreadableImage`] takes; without it
                the error is raised.
            question: `text_embeds`, `threshold`, `profile` and `view`, see [`~AnomalyDetector.reference`].

        Raises:
            FileNotFoundError, ValueError: name the image or argument and what was expected.
        """
        if not is_whole(batch_size) or batch_size < 1:
            raise ValueError(f"Expected a batch_size of at least 1, got {batch_size!r}.")
        banks = None
        if prompt_bank is not None and not isinstance(prompt_bank, str | Path) and not is_bank(prompt_bank):
            banks, prompt_bank = prompt_bank, None
            if question.get("profile") is not None:
                raise ValueError(GIVE_ALONE)
        reference = self.prepare(self.reference(prompt_bank, object_name, **question))
        read = self.reader.read(as_list_or_stream(images), reference.reference.view, on_error)
        referenced = self._with_banks(read, banks, reference)
        while batch := list(islice(referenced, batch_size)):
            yield from self.score_images(batch, on_error)

    def _with_banks(
        self, read: Iterator[ReadImage], prompt_banks: Iterable[PromptBank] | None, reference: PreparedReference
    ) -> Iterator[tuple[ReadImage, PreparedReference]]:
        """Each image with the reference, or with its own bank; another model's bank and another number are refused."""
        if prompt_banks is None:
            yield from ((image, reference) for image in read)
            return
        banks, matched, with_it = iter(prompt_banks), None, reference
        for image in read:
            bank = next(banks, None)
            if bank is None or not is_bank(bank):
                raise ValueError(f"Expected a PromptBank for each image, got {type(bank).__name__} for {image.name}.")
            if bank is not matched:
                self.require_match(bank, reference.reference.view)
                matched, with_it = bank, self.with_bank(reference, bank)
            yield image, with_it
        if next(banks, None) is not None:
            raise ValueError("Expected a PromptBank for each image, got more banks than images.")


def read_bank(path: str | Path) -> PromptBank:
    """A bank of a file, folder or Hub id; a Hub that does not answer is asked once."""
    here = Path(path).exists() or not HUB_ID.fullmatch(str(path))
    hub = {} if here else reaching({})
    try:
        return PromptBank.from_pretrained(path, **hub)
    except FileNotFoundError as error:
        if not hub:
            raise
        raise FileNotFoundError(
            f"No prompt bank at {path}: there is no such file, and the Hub cannot be reached."
        ) from error


__all__ = ["AnomalyDetector"]
