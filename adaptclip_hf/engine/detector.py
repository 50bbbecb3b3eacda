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

from ..model_files import is_exported
from ..modeling.checks import needs_the_package
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
# of what a bank records, beside the preprocessing
VIEW, GRID = "view", "grid"


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
        detector = cls(loaded.to(device).eval(), processor)
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
        return {
            "weights": self.model.weights_digest(),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.device.type,
            "object_name": object_name or config.object_name,
            **{name: getattr(config, name) for name in SCORE_FIELDS},
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
            ValueError: a name that is too long for the text tower.
        """
        return self.model.encode_text(object_name, self.processor.tokenizer)

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
        check_threshold(threshold)
        if object_name is not None and text_embeds is not None:
            raise ValueError("Give object_name or text_embeds, not both.")
        if profile is not None:
            profile = open_profile(profile, self, prompt_bank, object_name, text_embeds, threshold, view)
            prompt_bank = profile.prompt_bank.to(self.device, self.model.dtype)
            object_name, view = profile.object_name, profile.view
        view = view or View()
        text_embeds = self.encode_text(object_name) if text_embeds is None else text_embeds
        if isinstance(prompt_bank, str | Path):
            prompt_bank = self.open_bank(prompt_bank, view)
        one_bank = prompt_bank is None or is_bank(prompt_bank)
        read = self._with_banks(
            self.read(as_list_or_stream(images), view, on_error), prompt_bank, one_bank, view, on_error
        )
        while batch := list(islice(read, batch_size)):
            for result in self._score_batch(batch, text_embeds, threshold):
                yield result if profile is None else profile.judge(result)

    def _with_banks(
        self, read: Iterator["Photo"], prompt_bank: Banks, one_bank: bool, view: View, on_error: OnError | None
    ) -> Iterator[tuple["Photo", PromptBank | None]]:
        """Each image that was read and its bank; another model's is refused, and another number of them."""
        banks = repeat(prompt_bank) if one_bank else iter(prompt_bank)
        matched = None
        for photo in read:
            bank = next(banks, None)
            if is_bank(bank):
                if bank is not matched:
                    self.require_match(bank, view)
                    matched = bank
            elif not one_bank:
                raise ValueError(f"Expected a PromptBank for each image, got {type(bank).__name__} for {photo.name}.")
            if view.same_place and photo.error is None:
                photo = self._in_its_places(photo, bank, on_error)
            yield photo, bank
        if not one_bank and next(banks, None) is not None:
            raise ValueError("Expected a PromptBank for each image, got more banks than images.")

    def _in_its_places(self, photo: "Photo", bank: PromptBank | None, on_error: OnError | None) -> "Photo":
        try:
            require_same_grid(bank, photo.pieces, photo.name)
        except ValueError as error:
            if on_error is None:
                raise
            on_error(photo.name, error)
            return Photo(photo.name, error=str(error))
        return photo

    def read(self, images: Iterable, view: View = View(), on_error: OnError | None = None) -> Iterator["Photo"]:  # noqa: B008
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

    def read_ahead(self, images: Iterable, count: int, view: View, on_error: OnError | None) -> Ahead["Photo"]:
        """Reads and resizes images in a thread, some ahead of whoever takes them; see [`~AnomalyDetector.read`]."""
        return Ahead(map(self._with_pixel_values, self.read(images, view, on_error)), count)

    def _with_pixel_values(self, photo: "Photo") -> "Photo":
        if photo.pieces is None or len(photo.pieces) > 1:
            return photo
        return replace(photo, pixel_values=self.pixel_values(*photo.pieces))

    def pixel_values(self, image: Image.Image) -> torch.Tensor:
        """(1, 3, S, S) of an RGB image."""
        return self.processor.image_processor(image)["pixel_values"]

    def _score_batch(
        self, batch: list[tuple["Photo", PromptBank | None]], text_embeds: TextEmbeds, threshold: float | None
    ) -> Iterator[DetectionResult]:
        mosaics = [photo.pieces and Mosaic(photo.pieces) for photo, _ in batch]
        pieces = ((index, *each) for index, (photo, _) in enumerate(batch) for each in enumerate(photo.pieces or ()))
        while together := list(islice(pieces, max(len(batch), IMAGES_AT_ONCE))):
            ready = [(batch[index][0].pixel_values, piece) for index, _, piece in together]
            pixels = [self.pixel_values(piece) if pixels is None else pixels for pixels, piece in ready]
            features = self.encode(torch.cat(pixels))
            places = [(batch[index][0].pieces, number) for index, number, _ in together]
            banks = [batch[index][1] for index, _, _ in together]
            scored = self.to_host(*self.score_pieces(features, places, banks, text_embeds))
            for (index, number, _), each in zip(together, scored, strict=True):
                mosaics[index].add(number, *each)
        for (photo, bank), mosaic in zip(batch, mosaics, strict=True):
            if mosaic is None:
                yield DetectionResult(photo.name, error=photo.error)
            else:
                yield self.result(photo.name, photo.image, mosaic, bank is not None, threshold)

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


@dataclass(frozen=True)
class Photo:
    """An image that was read and how it is cut, or why it could not be; of one piece its pixel values, if they are
    ready."""

    name: str
    image: Image.Image | None = None
    pieces: Pieces | None = None
    error: str | None = None
    pixel_values: torch.Tensor | None = None


def require_one_grid(view: View, grids: dict[tuple[int, int], str]):
    """Refuses normal photos of several sizes where each place is compared with its own.

    Args:
        grids: (rows, columns) of tiles -> the first photo that has them.
    """
    if view.same_place and len(grids) > 1:
        (one, its_photo), (other, another) = list(grids.items())[:2]
        raise ValueError(
            f"{another} is cut into {other[0]} x {other[1]} tiles and {its_photo} into {one[0]} x {one[1]}: to compare "
            "each place with its own, all photos must have one size."
        )


def require_same_grid(bank: PromptBank | None, pieces: Pieces, name: str):
    """Refuses a photo that is cut into other places than the normal ones, where each is compared with its own."""
    if bank is not None and pieces.view.same_place and bank.preprocessing.get(GRID) != str(pieces.grid):
        raise ValueError(
            f"{name} is cut into {pieces.grid} rows and columns of tiles, the normal ones into "
            f"{bank.preprocessing.get(GRID)}: to compare each place with its own, all photos must have one size."
        )


def at_place(bank: PromptBank | None, pieces: Pieces, number: int) -> PromptBank | None:
    """What a piece is compared with: the bank, or of it the pieces at and beside its place.

    Raises:
        ValueError: the normal photos were cut into other pieces.
    """
    if bank is None or not pieces.view.same_place:
        return bank
    require_same_grid(bank, pieces, "a photo")
    tiles = len(pieces)
    places = pieces.neighbours(number)
    return bank.select([first + place for first in range(0, len(bank), tiles) for place in places])


def open_profile(profile, detector: AnomalyDetector, *others):
    """An inspection profile, read if it is a folder or Hub id, and checked against the detector.

    Args:
        others: what a call gives beside it and the profile holds itself; all of them `None`.

    Raises:
        FileNotFoundError: no such folder or repository.
        ValueError: it was made with another model, and names what differs; or something is given beside it.
    """
    if any(each is not None for each in others):
        raise ValueError("A profile holds its bank, object name, threshold and view: give it alone.")
    if isinstance(profile, str | Path):
        try:
            from adaptclip_hf.inspection import InspectionProfile
        except ImportError as error:
            raise needs_the_package("profile") from error
        profile = InspectionProfile.from_pretrained(profile)
    profile.require_match(detector)
    return profile


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
