"""The engine: remembers normal images once, scores any number of others. Values in, values out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING

from PIL import Image
from tqdm.auto import tqdm

from .appearance import appearance_of
from .augments import AUTO, ignored
from .contract import Array, ScoringModel, arrays_of, backend_of, dtype_of
from .images import ImageReader, LoadedImage, OnError, ReadImage, UnreadableImage, as_list_or_stream
from .reference import GRID, TILED, VIEW, PreparedReference, Reference, require_one_grid, require_same_grid
from .result import Result
from .scoring import TILES_AT_ONCE, TileInput, compare, encode, encode_tiles, join, nearest_image, score, tile_inputs
from .tiles import TileMerger, View
from .token_blocks import TokenBlocks
from .turned_copies import TurnedCopies
from .variations import knowing_variations, ready_to_search

if TYPE_CHECKING:
    import torch

    from ..modeling.normal_variation import NormalVariation
    from ..modeling.prompt_bank import PromptBank
    from ..modeling.text_encoder import TextEmbeds
    from ..modeling.vision_encoder import ImageFeatures
    from ..processing.processing_adaptclip import AdaptCLIPProcessor

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
# fields that are told only where they are not as released, since profiles of earlier versions do not have them
LATER_FIELDS = {"normal_variation": False, "few_shot_adapters": True}


@dataclass(frozen=True)
class AnomalyScorer:
    """A model and its processor as one. A call depends on its arguments alone and changes nothing.

    Any number of threads may share a scorer. The model's weights must not change while it is in use.
    """

    model: ScoringModel
    processor: "AdaptCLIPProcessor"

    @property
    def backend(self) -> str:
        """What computes: "torch", "onnx" or "openvino"."""
        return backend_of(self.model)

    @property
    def dtype(self) -> str:
        """What it computes in: "float32", "bfloat16", ...; or "int8" of an export."""
        return dtype_of(self.model)

    @property
    def is_export(self) -> bool:
        """Whether the model was exported, and so computes in one precision."""
        return hasattr(self.model, "computes_in")

    def in_another_dtype(self) -> "AnomalyScorer | None":
        """The same model in the dtype in which what it makes is likely to be used too; `None` where none is at hand."""
        return None

    @property
    def device(self) -> "torch.device":
        return self.model.device

    @property
    def reader(self) -> ImageReader:
        """Reads images for this model."""
        return ImageReader(self.processor.image_processor)

    def describe(self, object_name: str | None = None) -> dict:
        """All that a score depends on, besides the image and the normal ones, as JSON values."""
        config = self.model.config
        untrained = self.model.untrained_adapters()
        return {
            "weights": self.model.weights_digest(),
            "dtype": self.dtype,
            "device": self.device.type,
            "object_name": object_name or config.object_name,
            **{name: getattr(config, name) for name in SCORE_FIELDS},
            **{name: chosen for name, usual in LATER_FIELDS.items() if (chosen := getattr(config, name)) != usual},
            **dict.fromkeys(untrained, False),
            **({"adapter_variants": config.adapter_variants} if config.adapter_variants else {}),
            "fingerprint": self.model.fingerprint(),
            "preprocessing": self.processor.image_processor.fingerprint(),
        }

    def preprocessing(self, view: View = View()) -> dict[str, str]:
        """How an image becomes pixel values, as a bank records it."""
        return self.processor.image_processor.fingerprint() | {VIEW: view.key()}

    def require_match(self, prompt_bank: "PromptBank", view: View = View()):
        """Refuses the bank of another model, preprocessing or view.

        Raises:
            ValueError: names what differs.
        """
        expected = self.preprocessing(view)
        if VIEW not in prompt_bank.preprocessing and view.key() == View().key():
            del expected[VIEW]  # a bank of whole images that was made by hand
        prompt_bank.require_match(self.model.fingerprint(), expected)

    def remember(
        self,
        normal_images: Iterable,
        on_error: OnError | None = None,
        progress: bool = False,
        view: View = View(),
        augment: str = AUTO,
        report: Callable[[str], object] = ignored,
    ) -> "PromptBank":
        """Encodes normal images as they come; only a few images and the features are in memory.

        Args:
            normal_images: any iterable of what `load_image` reads.
            on_error: called for each image that cannot be read, which is then left out; without it the error is raised.
            progress: show a bar.
            view: how they are looked at; each tile is an image of the bank.
            augment: what is compared with beside them: their copies that are turned ("rotations") or mirrored
                ("flips"), "none", or "auto": turned where that brings the first eight nearer to one another, of a model
                whose config has `normal_variation`; others stay as released.
            report: called with a line for people when "auto" turns.

        Returns:
            [`PromptBank`]: on the model's device, in its dtype.

        Raises:
            FileNotFoundError, ValueError: an image cannot be read; no image is left; or an unknown `augment`.
        """
        arrays, copies = arrays_of(self.model), TurnedCopies(self.model, augment, view, report)
        images, errors = as_list_or_stream(normal_images), []
        grids: dict[tuple[int, int], str] = {}
        blocks = TokenBlocks(arrays, expected=length_hint(images))

        def tiles() -> Iterator[TileInput]:
            for image in self.reader.read(images, view, on_error):
                if isinstance(image, UnreadableImage):
                    errors.append(image.error)
                else:
                    grids.setdefault(image.tiles.grid, image.name)
                    require_one_grid(view, grids)
                    yield from tile_inputs(self.reader, image)
                bar.update()

        with tqdm(desc="normal images", unit="image", disable=not progress) as bar:
            for together, features in encode_tiles(self.model, tiles()):
                tokens = arrays.unit_tokens(features)
                blocks.add(tokens)
                copies.add(tokens, together)
        if not blocks.count:
            raise ValueError(f"At least one normal image that can be read is needed, got none. {' '.join(errors[:1])}")
        made_by = self.preprocessing(view) | ({GRID: str(*grids)} if view.by_place else {})
        made_by |= {TILED: "yes"} if any(grid != (1, 1) for grid in grids) else {}
        added, added_of = copies.finish()
        bank = arrays.bank(blocks.layers(), self.model.fingerprint(), made_by, added=added, added_of=added_of)
        bank.require_finite(f"the normal images' features in {self.model.dtype}")
        whole = self.model.config.normal_variation and TILED not in made_by
        return bank.with_variation() if whole else bank

    def encode_text(self, object_name: str | None = None) -> "TextEmbeds":
        """Text embeddings for an object's name (the model's own by default), to score with any number of times.

        Raises:
            ValueError: a name that is too long for the text tower.
        """
        with arrays_of(self.model).without_gradients():
            return self.model.encode_text(object_name, self.processor.tokenizer)

    def encode(self, pixel_values: Array) -> "ImageFeatures":
        """Features of pixel values (B, 3, S, S), to score with any number of banks."""
        return encode(self.model, pixel_values)

    def score(
        self,
        features: "ImageFeatures",
        prompt_bank: "PromptBank | Sequence[PromptBank] | None" = None,
        text_embeds: "TextEmbeds | None" = None,
    ) -> tuple[Array, Array]:
        """Scores (B,) and maps (B, S, S) of encoded images, in [0, 1], float32 on the model's device.

        Args:
            prompt_bank: `None` for zero-shot, a bank for the whole batch, or a list of B, one for each image.
            text_embeds: of [`~AnomalyScorer.encode_text`].

        Raises:
            ValueError: the bank of another model, or features that are not finite.
        """
        output = score(self.model, features, prompt_bank, text_embeds)
        return output.anomaly_scores, output.anomaly_maps

    def prepare(self, reference: Reference) -> PreparedReference:
        """Checks a reference and makes it ready for any number of [`~AnomalyScorer.score_images`].

        Raises:
            ValueError: another model or preprocessing made it; names what differs. Or its bank is not finite.
        """
        reference.require_match(self)
        text_embeds = reference.text_embeds
        prepared = PreparedReference(
            reference, None, self.encode_text(reference.object_name) if text_embeds is None else text_embeds
        )
        if reference.prompt_bank is None:
            return prepared
        return self.with_bank(prepared, reference.prompt_bank, reference.variations)

    def with_bank(
        self, prepared: PreparedReference, bank: "PromptBank", variations: "Sequence[NormalVariation]" = ()
    ) -> PreparedReference:
        """A prepared reference with normal images that match this model, ready for any number of scores.

        Args:
            variations: of the normal tiles at each place, where they were found before.

        Raises:
            ValueError: the bank is not finite.
        """
        bank.require_finite()
        with_it = replace(prepared, prompt_bank=bank.to(self.device, self.model.dtype))
        with_it = replace(with_it, variations=tuple(each.to(self.device) for each in variations))
        return ready_to_search(knowing_variations(self.model, with_it))

    def score_images(
        self, batch: Sequence[tuple[ReadImage, PreparedReference]], on_error: OnError | None = None
    ) -> Iterator[Result]:
        """The results of images that were read, each with what it is scored against; all are encoded together.

        Args:
            on_error: called for an image that its reference refuses; without it the error is raised.
        """
        batch = [(self._checked(image, reference, on_error), reference) for image, reference in batch]
        loaded = {index: image for index, (image, _) in enumerate(batch) if isinstance(image, LoadedImage)}
        mergers = {index: TileMerger(image.tiles) for index, image in loaded.items()}
        tiles = (each for image in loaded.values() for each in tile_inputs(self.reader, image))
        owners = (index for index, image in loaded.items() for _ in image.tiles)
        for together, features in encode_tiles(self.model, tiles, max(len(batch), TILES_AT_ONCE)):
            indices = list(islice(owners, len(together)))
            scores = compare(self.model, features, [each.tile for each in together], [batch[i][1] for i in indices])
            for number, (index, each) in enumerate(zip(indices, together, strict=True)):
                merger, reference = mergers[index], batch[index][1]
                merger.add(each.tile.number, *scores[number])
                if reference.reference.needs_appearance:
                    processor = self.processor.image_processor
                    merger.see(appearance_of(self.model, processor, each.pixel_values, features, number))
                if reference.prompt_bank is not None and len(merger.tiles) == 1:
                    merger.nearest = nearest_image(self.model, features, number, reference.prompt_bank)
        for index, (image, reference) in enumerate(batch):
            if isinstance(image, LoadedImage):
                yield join(self.model, mergers[index], reference, image.name, image.image)
            else:
                yield image

    def _checked(self, image: ReadImage, reference: PreparedReference, on_error: OnError | None) -> ReadImage:
        """The image, or its error where each tile is compared with its own place and the normal images have others."""
        if isinstance(image, UnreadableImage):
            return image
        try:
            require_same_grid(reference, image.tiles)
        except ValueError as error:
            if on_error is None:
                raise
            on_error(image.name, error)
            return UnreadableImage(image.name, str(error))
        return image

    def pixel_values(self, image: Image.Image) -> Array:
        """(1, 3, S, S) of an RGB image."""
        return self.reader.pixel_values(image)
