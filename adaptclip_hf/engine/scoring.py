"""The one way from an image's tiles to its result: encode the tiles, compare them, join their scores and maps."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from ..modeling.normal_variation import mean_tokens
from ..modeling.prompt_bank import PromptBank
from ..modeling.prompt_query_adapter import unit_patch_tokens
from ..modeling.text_encoder import TextEmbeds
from ..modeling.vision_encoder import ImageFeatures
from .contract import ScoringModel
from .images import ImageReader, LoadedImage
from .reference import PreparedReference, bank_for
from .result import DetectionResult
from .tiles import Tile, TileMerger

TILES_AT_ONCE = 8
# a map stays below this where each patch of the image equals a normal one
NO_DISTANCE = 1e-4


class TileInput(NamedTuple):
    """A tile on its way to the encoder, with its pixel values (1, 3, S, S)."""

    tile: Tile
    pixel_values: torch.Tensor


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


def backend_of(model: ScoringModel) -> str:
    """What computes; the code that came along with a model of version 0.2 does not say that it is torch."""
    return getattr(model, "backend", "torch")


@torch.inference_mode()
def encode(model: ScoringModel, pixel_values: torch.Tensor) -> ImageFeatures:
    """Features of pixel values (B, 3, S, S)."""
    one_by_one = model.device.type == "cpu" and model.dtype == torch.float32 and backend_of(model) != "openvino"
    if not one_by_one or len(pixel_values) < 2:
        return model.image_features(pixel_values.to(model.device))
    # one image fits a processor's caches and several do not: together they take longer than one by one in torch and in
    # ONNX Runtime, while OpenVINO takes as long
    parts = [model.image_features(one) for one in pixel_values.split(1)]
    layers = zip(*(part.patch_embeds for part in parts), strict=True)
    return ImageFeatures(torch.cat([part.image_embeds for part in parts]), tuple(torch.cat(layer) for layer in layers))


def encode_tiles(
    model: ScoringModel, tiles: Iterable[TileInput], at_once: int = TILES_AT_ONCE
) -> Iterator[tuple[list[TileInput], ImageFeatures]]:
    """Encodes tiles as they come, some at a time."""
    waiting = iter(tiles)
    while together := list(islice(waiting, at_once)):
        yield together, encode(model, torch.cat([each.pixel_values for each in together]))


@torch.inference_mode()
def score(
    model: ScoringModel,
    features: ImageFeatures,
    prompt_bank: PromptBank | Sequence[PromptBank] | None,
    text_embeds: TextEmbeds | None,
) -> Any:
    """The model's output for features, with no bank, one bank for all or a bank for each."""
    return model(image_features=features, prompt_bank=prompt_bank, text_embeds=text_embeds)


def compare(
    model: ScoringModel, features: ImageFeatures, tiles: Sequence[Tile], references: Sequence[PreparedReference]
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


@torch.inference_mode()
def nearest_image(features: ImageFeatures, number: int, bank: PromptBank) -> int | None:
    """The place in a bank of the image that is most like an encoded one as a whole, by their mean patch tokens, which
    the bank's variation keeps; `None` where the bank does not know its variation.

    Args:
        number: of the image among those that were encoded.
    """
    if bank.variation is None:
        return None
    tokens = mean_tokens([unit_patch_tokens(layer[number : number + 1]) for layer in features.patch_embeds])
    own, normals = (functional.normalize(each.float(), dim=-1) for each in (tokens, bank.variation.whole))
    return int(torch.einsum("bnd,knd->k", own, normals).argmax())


def to_cpu(model: ScoringModel, scores: torch.Tensor, maps: torch.Tensor) -> Iterator[TileScore]:
    """Takes scores (B,) and maps (B, S, S) off the device.

    Raises:
        ValueError: a score or a map is not finite.
    """
    scores, maps = scores.float().cpu(), maps.float().cpu()
    if not (scores.isfinite().all() and maps.isfinite().all()):
        raise ValueError(
            f"A score is not finite: the image encoder overflows in {model.dtype}, or weights or normal images are "
            "damaged. Load the model in bfloat16 or float32; if that does not help, get it and the normal images anew."
        )
    return map(TileScore, scores.tolist(), maps.numpy())


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
