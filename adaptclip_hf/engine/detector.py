"""The engine: remembers normal images once, scores any number of others."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import length_hint
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ..model_files import is_exported
from ..modeling.modeling_adaptclip import AdaptCLIPModel, AdaptCLIPOutput
from ..modeling.prompt_bank import PromptBank, is_bank
from ..modeling.text_encoder import TextEmbeds
from ..modeling.vision_encoder import ImageFeatures
from ..processing.image_loading import load_image, name_of
from ..processing.image_processing_adaptclip import as_list, check_threshold, label_of
from ..processing.processing_adaptclip import AdaptCLIPProcessor
from .ahead import Ahead
from .fast_layers import use_fast_layers
from .growing_bank import GrowingBank
from .photo import Photo
from .reference import GRID, VIEW, Reference, at_place, open_profile, require_one_grid, require_same_grid
from .result import DetectionResult
from .view import Mosaic, Pieces, View

IMAGES_AT_ONCE = 8
BACKENDS = ("torch", "onnx", "openvino")
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
    >>> bank = detector.remember(["ok1.jpg", "ok2.jpg"])
    >>> [result] = detector.detect("part.jpg", prompt_bank=bank)
    >>> round(result.score, 1), result.anomaly_map.shape
    (0.5, (336, 336))
    ```
    """

    model: AdaptCLIPModel
    processor: AdaptCLIPProcessor
    # arguments that the model was loaded with, to load its text tower too for another object name
    source: dict | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        backend: str | None = None,
        device=None,
        dtype: str | torch.dtype | None = None,
        **options,
    ) -> "AnomalyDetector":
        """Loads model and processor.

        Args:
            model: "adaptclip-tiny", a folder or a Hub id.
            backend: "torch", "onnx" or "openvino": what the folder must be made for, which says it by itself.
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
        from .loading import AUTO_DTYPE, choose_device, choose_dtype, load_model_and_processor

        if backend not in (None, *BACKENDS):
            raise ValueError(f"There is no backend {backend!r}; there is {', '.join(BACKENDS)}.")
        if is_exported(model):
            options["device"] = device
        else:
            device = choose_device(device)
            dtype = choose_dtype(device) if dtype == AUTO_DTYPE else dtype
            options.setdefault("text_tower", False)
        loaded, processor = load_model_and_processor(model, **({"dtype": dtype} if dtype else {}), **options)
        source = {name: value for name, value in options.items() if name not in ("text_tower", "trust_remote_code")}
        detector = cls(loaded.to(device).eval(), processor, source)
        if detector.backend == BACKENDS[0]:
            use_fast_layers(detector.model)
        if backend not in (None, detector.backend):
            raise ValueError(
                f"{model} is for the backend {detector.backend!r}, not {backend!r}: `adaptclip export --format` writes "
                "a model for another one (onnx, openvino, torch)."
            )
        return detector

    @property
    def backend(self) -> str:
        """What computes: "torch", "onnx" or "openvino"."""
        description = getattr(self.model, "description", None)  # of an exported model
        return "torch" if description is None else description.format

    @property
    def device(self) -> torch.device:
        return self.model.device

    def describe(self, object_name: str | None = None) -> dict:
        """All that a score depends on beside the image and the normal ones, as JSON has it."""
        config = self.model.config
        untrained = self.model.untrained_adapters()
        return {
            "weights": self.model.weights_digest(),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.device.type,
            "object_name": object_name or config.object_name,
            **{name: getattr(config, name) for name in SCORE_FIELDS},
            **dict.fromkeys(untrained, False),
            **({"adapter_variants": config.adapter_variants} if config.adapter_variants else {}),
            "fingerprint": self.model.fingerprint(),
            "preprocessing": self.processor.image_processor.fingerprint(),
        }

    def remember(
        self,
        normal_images: Iterable,
        on_error: OnError | None = None,
        progress: bool = False,
        view: View = View(),  # noqa: B008
    ) -> PromptBank:
        """Encodes normal images, which come as a stream: a few at a time are in memory, and their features.

        Args:
            normal_images: any iterable of what `load_image` reads.
            on_error: called for each image that cannot be read, which is then left out; an error without.
            progress: show a bar.
            view: how they are looked at; each tile is an image of the bank.

        Returns:
            [`PromptBank`]: on the model's device, in its dtype.

        Raises:
            FileNotFoundError, ValueError: an image cannot be read; or no image is left.
        """
        made_by = self.preprocessing(view)
        images, errors, grids = as_list_or_stream(normal_images), [], {}
        growing = GrowingBank(expected=length_hint(images))

        def pieces() -> Iterator[Image.Image]:
            for photo in self.read(images, view, on_error):
                if photo.error is None:
                    grids.setdefault(photo.pieces.grid, photo.name)
                    require_one_grid(view, grids)
                    yield from photo.pieces
                else:
                    errors.append(photo.error)
                bar.update()

        with tqdm(desc="normal images", unit="image", disable=not progress) as bar, torch.no_grad():
            waiting = pieces()
            while batch := list(islice((self.pixel_values(piece) for piece in waiting), IMAGES_AT_ONCE)):
                if view.same_place:
                    made_by[GRID] = str(*grids)
                growing.add(self.model.encode_prompts(torch.cat(batch).to(self.device), made_by))
        if not growing.count:
            raise ValueError(f"At least one normal image that can be read is needed, got none. {' '.join(errors[:1])}")
        return growing.bank()

    def preprocessing(self, view: View = View()) -> dict[str, str]:  # noqa: B008
        """How a photo becomes pixel values, as a bank records it."""
        return self.processor.image_processor.fingerprint() | {VIEW: view.key()}

    def require_match(self, prompt_bank: PromptBank, view: View = View()):  # noqa: B008
        """Refuses the bank of another model, preprocessing or view.

        Raises:
            ValueError: names what differs.
        """
        expected = self.preprocessing(view)
        if VIEW not in prompt_bank.preprocessing and view.key() == View().key():
            del expected[VIEW]  # a bank of whole images, made by hand
        prompt_bank.require_match(self.model.fingerprint(), expected)

    def open_bank(self, prompt_bank: PromptBank | str | Path, view: View = View()) -> PromptBank:  # noqa: B008
        """A bank, read if it is a file or Hub id, on the model's device.

        Raises:
            FileNotFoundError: no such file or repository.
            ValueError: it was made by another model or preprocessing; names what differs.
        """
        if isinstance(prompt_bank, str | Path):
            prompt_bank = PromptBank.from_pretrained(prompt_bank)
        self.require_match(prompt_bank, view)
        return prompt_bank.to(self.device, self.model.dtype)

    @torch.no_grad()
    def encode_text(self, object_name: str | None = None) -> TextEmbeds:
        """Text embeddings for an object's name (the model's own by default), to score with any number of times.

        Raises:
            OSError: the text tower is needed, and no longer where the model was loaded from.
            ValueError: a name that is too long for the text tower, or another model is there now.
        """
        model = self.model
        if self.source is not None and object_name not in (None, model.config.object_name) and lacks_text_tower(model):
            model = self._with_text_tower(self.source)
        return model.encode_text(object_name, self.processor.tokenizer)

    def _with_text_tower(self, source: dict) -> AdaptCLIPModel:
        """The same model loaded again, with its text tower."""
        model = self.model
        whole = AdaptCLIPModel.from_pretrained(model.name_or_path, **{**source, "dtype": model.dtype}).to(self.device)
        if whole.weights_digest() != model.weights_digest():
            raise ValueError(f"{model.name_or_path} is no longer the model that was loaded from there: load it anew.")
        return whole

    @torch.inference_mode()
    def encode(self, pixel_values: torch.Tensor) -> ImageFeatures:
        """Features of pixel values (B, 3, S, S), to score with any number of banks."""
        one_by_one = self.device.type == "cpu" and self.model.dtype == torch.float32 and self.backend == "torch"
        if not one_by_one or len(pixel_values) < 2:
            return self.model.image_features(pixel_values.to(self.device))
        # one image fits a processor's caches and several do not: together they take longer than one by one
        parts = [self.model.image_features(one) for one in pixel_values.split(1)]
        layers = zip(*(part.patch_embeds for part in parts), strict=True)
        return ImageFeatures(
            torch.cat([part.image_embeds for part in parts]), tuple(torch.cat(layer) for layer in layers)
        )

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
        profile: "InspectionProfile | str | Path | None" = None,  # noqa: F821
        view: View | None = None,
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
            profile: an [`InspectionProfile`], its folder or Hub id, in place of all of these and the view: results
                then have a p-value, a label and regions.
            view: how the images are looked at, as the bank's were; the default [`View`] without.
            batch_size: images at a time; touches the last bits of scores.
            on_error: called for each image that cannot be read, whose result then has an `error`; an error without.

        Raises:
            FileNotFoundError, ValueError: name the image or argument and what was expected.
        """
        one_bank = prompt_bank is None or is_bank(prompt_bank) or isinstance(prompt_bank, str | Path)
        reference = self.reference(
            prompt_bank if one_bank else None, object_name, text_embeds, threshold, profile, view
        )
        if not one_bank and profile is not None:
            open_profile(profile, self, prompt_bank)
        read = self.read(as_list_or_stream(images), reference.view, on_error)
        referenced = ((photo, reference) for photo in read)
        if not one_bank:
            referenced = self._with_banks(read, prompt_bank, reference)
        while batch := list(islice(referenced, batch_size)):
            yield from self.score_photos(batch, on_error)

    def reference(
        self,
        prompt_bank: PromptBank | str | Path | None = None,
        object_name: str | None = None,
        text_embeds: TextEmbeds | None = None,
        threshold: float | None = None,
        profile: "InspectionProfile | str | Path | None" = None,  # noqa: F821
        view: View | None = None,
    ) -> Reference:
        """Opens and checks what photos shall be scored against, for any number of [`~AnomalyDetector.score_photos`].

        Takes the arguments of [`~AnomalyDetector.stream`] and raises what that does.
        """
        check_threshold(threshold)
        if object_name is not None and text_embeds is not None:
            raise ValueError("Give object_name or text_embeds, not both.")
        if profile is not None:
            profile = open_profile(profile, self, prompt_bank, object_name, text_embeds, threshold, view)
            prompt_bank, object_name, view = profile.prompt_bank, profile.object_name, profile.view
        view = view or View()
        if prompt_bank is not None:
            prompt_bank = self.open_bank(prompt_bank, view)
        text_embeds = self.encode_text(object_name) if text_embeds is None else text_embeds
        return Reference(text_embeds, view, prompt_bank, threshold, profile)

    def _with_banks(
        self, read: Iterator[Photo], prompt_banks: Iterable[PromptBank], reference: Reference
    ) -> Iterator[tuple[Photo, Reference]]:
        """Each image that was read with its own bank; another model's is refused, and another number of them."""
        banks, matched = iter(prompt_banks), None
        for photo in read:
            bank = next(banks, None)
            if not is_bank(bank):
                raise ValueError(f"Expected a PromptBank for each image, got {type(bank).__name__} for {photo.name}.")
            if bank is not matched:
                self.require_match(bank, reference.view)
                matched = bank
            yield photo, replace(reference, prompt_bank=bank)
        if next(banks, None) is not None:
            raise ValueError("Expected a PromptBank for each image, got more banks than images.")

    def read(self, images: Iterable, view: View = View(), on_error: OnError | None = None) -> Iterator[Photo]:  # noqa: B008
        """Reads images as they come, and cuts them; a [`Photo`] among them has been read and stays as it is.

        Raises:
            FileNotFoundError, ValueError: an image cannot be read, without `on_error`.
        """
        for source in images:
            if isinstance(source, Photo):
                yield source
                continue
            name = name_of(source)
            try:
                image = load_image(source)
                yield Photo(name, image, view.cut(image, name))
            except (OSError, ValueError) as error:
                if on_error is None:
                    raise
                on_error(name, error)
                yield Photo(name, error=str(error))

    def read_ready(self, images: Iterable, view: View = View(), on_error: OnError | None = None) -> Iterator[Photo]:  # noqa: B008
        """Reads and resizes images as they come, see [`~AnomalyDetector.read`]: what is left is the model's work."""
        return map(self._with_pixel_values, self.read(images, view, on_error))

    def read_ahead(self, images: Iterable, count: int, view: View, on_error: OnError | None) -> Ahead[Photo]:
        """[`~AnomalyDetector.read_ready`] in a thread, some ahead of whoever takes them."""
        return Ahead(self.read_ready(images, view, on_error), count)

    def _with_pixel_values(self, photo: Photo) -> Photo:
        if photo.pieces is None or len(photo.pieces) > 1:
            return photo
        return replace(photo, pixel_values=self.pixel_values(*photo.pieces))

    def pixel_values(self, image: Image.Image) -> torch.Tensor:
        """(1, 3, S, S) of an RGB image."""
        return self.processor.image_processor(image)["pixel_values"]

    def score_photos(
        self, batch: list[tuple[Photo, Reference]], on_error: OnError | None = None
    ) -> Iterator[DetectionResult]:
        """The results of photos that were read, each with what it is scored against; all are encoded together.

        Args:
            on_error: as in [`~AnomalyDetector.stream`].
        """
        batch = [(self._in_its_places(photo, reference, on_error), reference) for photo, reference in batch]
        mosaics = [photo.pieces and Mosaic(photo.pieces) for photo, _ in batch]
        pieces = ((index, *each) for index, (photo, _) in enumerate(batch) for each in enumerate(photo.pieces or ()))
        while together := list(islice(pieces, max(len(batch), IMAGES_AT_ONCE))):
            ready = [(batch[index][0].pixel_values, piece) for index, _, piece in together]
            pixels = [self.pixel_values(piece) if pixels is None else pixels for pixels, piece in ready]
            features = self.encode(torch.cat(pixels))
            places = [(batch[index][0].pieces, number) for index, number, _ in together]
            scored = self._score_by_text(features, places, [batch[index][1] for index, _, _ in together])
            for (index, number, _), each in zip(together, scored, strict=True):
                mosaics[index].add(number, *each)
        for (photo, reference), mosaic in zip(batch, mosaics, strict=True):
            if mosaic is None:
                yield DetectionResult(photo.name, error=photo.error)
                continue
            few_shot = reference.prompt_bank is not None
            result = self.result(photo.name, photo.image, mosaic, few_shot, reference.threshold)
            yield result if reference.profile is None else reference.profile.judge(result)

    def _in_its_places(self, photo: Photo, reference: Reference, on_error: OnError | None) -> Photo:
        """The photo, or its error where each place is compared with its own and the normal photos have others."""
        if photo.error is not None:
            return photo
        try:
            require_same_grid(reference.prompt_bank, photo.pieces, photo.name)
        except ValueError as error:
            if on_error is None:
                raise
            on_error(photo.name, error)
            return Photo(photo.name, error=str(error))
        return photo

    def _score_by_text(
        self, features: ImageFeatures, places: list[tuple[Pieces, int]], references: list[Reference]
    ) -> list[tuple[float, np.ndarray]]:
        """Score and map of each encoded piece; those of the same text, and with or without normal images, together."""
        groups: dict[tuple[int, bool], list[int]] = {}
        for number, reference in enumerate(references):
            groups.setdefault((id(reference.text_embeds), reference.prompt_bank is None), []).append(number)
        scored: dict[int, tuple[float, np.ndarray]] = {}
        for numbers in groups.values():
            some = features if len(groups) == 1 else features.select(numbers)
            banks = [references[number].prompt_bank for number in numbers]
            text_embeds = references[numbers[0]].text_embeds
            outputs = self.score_pieces(some, [places[number] for number in numbers], banks, text_embeds)
            scored |= zip(numbers, self.to_host(*outputs), strict=True)
        return [scored[number] for number in range(len(references))]

    def score_pieces(
        self,
        features: ImageFeatures,
        places: list[tuple[Pieces, int]],
        banks: list[PromptBank | None],
        text_embeds: TextEmbeds | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (B,) and maps (B, S, S) of encoded pieces of photos.

        Args:
            places: of each piece its photo's pieces, and its number among them.
            banks: of each piece its photo's.
        """
        at_places = [at_place(bank, *place) for bank, place in zip(banks, places, strict=True)]
        shared = all(bank is at_places[0] for bank in at_places)
        return self.score(features, at_places[0] if shared else at_places, text_embeds)

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
        image: Image.Image | None,
        mosaic: Mosaic,
        few_shot: bool,
        threshold: float | None = None,
    ) -> DetectionResult:
        """The result of one image of the scores and maps of its pieces."""
        harmonic = self.model.config.score_fusion == "harmonic"
        view = mosaic.pieces.view
        return DetectionResult(
            name,
            mosaic.score,
            label_of(mosaic.score, threshold),
            mosaic.map,
            mosaic.pieces.size,
            view.region,
            view.ignore,
            among_normals=few_shot and harmonic and float(mosaic.map.max()) < NO_DISTANCE,
            image=image,
        )


def lacks_text_tower(model) -> bool:
    """Whether a model was loaded without its text tower, and its own object name is still the one that it knows."""
    clip = getattr(model, "clip", None)  # an exported model has none
    return clip is not None and clip.text_model is None and model.config.object_name == model.object_name


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
