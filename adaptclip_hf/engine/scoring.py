"""The one way from an image's tiles to its result: encode the tiles, compare them, join their scores and maps."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from .contract import Array, ScoringModel, arrays_of
from .images import ImageReader, LoadedImage
from .reference import PreparedReference, bank_for
from .result import DetectionResult
from .tiles import Tile, TileMerger

if TYPE_CHECKING:
    from ..modeling.prompt_bank import PromptBank
    from ..modeling.text_encoder import TextEmbeds
    from ..modeling.vision_encoder import ImageFeatures

TILES_AT_ONCE = 8
# a map stays below this where each patch of the image equals a normal one
NO_DISTANCE = 1e-4


class TileInput(NamedTuple):
    """A tile on its way to the encoder, with its pixel values (1, 3, S, S)."""

    tile: Tile
    pixel_values: Array


class TileScore(NamedTuple):
    """The score of a tile and its map (S, S), both in [0, 1] and off the device."""

    score: float
    map: np.ndarray


def tile_inputs(reader: ImageReader, image: LoadedImage) -> Iterator[TileInput]:
    """The tiles of an image, one after the other."""
    if image.pixel_values is not None:
        [tile] = image.tiles
        yield TileInput(tile, image.pixel_values)
        return
    for tile, crop in zip(image.tiles, image.tiles.crops(image.image), strict=True):
        yield TileInput(tile, reader.pixel_values(crop))


def encode(model: ScoringModel, pixel_values: Array) -> "ImageFeatures":
    """Features of pixel values (B, 3, S, S)."""
    return arrays_of(model).encode(model, pixel_values)


def encode_tiles(
    model: ScoringModel, tiles: Iterable[TileInput], at_once: int = TILES_AT_ONCE
) -> Iterator[tuple[list[TileInput], "ImageFeatures"]]:
    """Encodes tiles as they come, some at a time."""
    waiting = iter(tiles)
    while together := list(islice(waiting, at_once)):
        yield together, encode(model, arrays_of(model).joined([each.pixel_values for each in together]))


def score(
    model: ScoringModel,
    features: "ImageFeatures",
    prompt_bank: "PromptBank | Sequence[PromptBank] | None",
    text_embeds: "TextEmbeds | None",
) -> Any:
    """The model's output for features, with no bank, one bank for all or a bank for each."""
    return arrays_of(model).score(model, features, prompt_bank, text_embeds)


def compare(
    model: ScoringModel, features: "ImageFeatures", tiles: Sequence[Tile], references: Sequence[PreparedReference]
) -> list[TileScore]:
    """Scores encoded tiles, each against its own reference.

    Tiles with the same text embeddings, and with or without normal images, are compared together.

    Raises:
        ValueError: a score or a map is not finite.
    """
    groups: dict[tuple[int, bool], list[int]] = {}
    for number, reference in enumerate(references):
        groups.setdefault((id(reference.text_embeds), reference.prompt_bank is None), []).append(number)
    scores: dict[int, TileScore] = {}
    for numbers in groups.values():
        some = features if len(groups) == 1 else features.select(numbers)
        banks = [bank for each in numbers if (bank := bank_for(references[each], tiles[each])) is not None]
        one_for_all = all(bank is banks[0] for bank in banks)
        prompt_bank = (banks[0] if one_for_all else banks) if banks else None
        output = score(model, some, prompt_bank, references[numbers[0]].text_embeds)
        scores |= zip(numbers, to_cpu(model, output.anomaly_scores, output.anomaly_maps), strict=True)
    return [scores[number] for number in range(len(references))]


def nearest_image(model: ScoringModel, features: "ImageFeatures", number: int, bank: "PromptBank") -> int | None:
    """The place in a bank of the image that is most like an encoded one as a whole, by their mean patch tokens, which
    the bank's variation keeps; `None` where the bank does not know its variation.

    Args:
        number: of the image among those that were encoded.
    """
    return None if bank.variation is None else arrays_of(model).nearest_image(features, number, bank)


def to_cpu(model: ScoringModel, scores: Array, maps: Array) -> Iterator[TileScore]:
    """Takes scores (B,) and maps (B, S, S) off the device.

    Raises:
        ValueError: a score or a map is not finite.
    """
    scores, maps = map(arrays_of(model).off_device, (scores, maps))
    if not (np.isfinite(scores).all() and np.isfinite(maps).all()):
        raise ValueError(
            f"A score is not finite: the image encoder overflows in {model.dtype}, or weights or normal images are "
            "damaged. Load the model in bfloat16 or float32; if that does not help, get it and the normal images anew."
        )
    return map(TileScore, scores.tolist(), maps)


def join(
    model: ScoringModel, merger: TileMerger, reference: PreparedReference, name: str, image: Image.Image | None = None
) -> DetectionResult:
    """The result of an image whose tiles were merged, with the reference's decision.

    Args:
        image: RGB; `None` where only its features are known.
    """
    harmonic = model.config.score_fusion == "harmonic"
    tiles = merger.tiles
    result = DetectionResult(
        name,
        merger.score,
        merger.map,
        tiles.size,
        region=tiles.view.region,
        ignore=tiles.view.ignore,
        nearest=reference.reference.normal_name(merger.nearest),
        among_normals=reference.prompt_bank is not None and harmonic and float(merger.map.max()) < NO_DISTANCE,
        image=image,
        appearance=merger.appearance,
    )
    return reference.reference.decide(result)
