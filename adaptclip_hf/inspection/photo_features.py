"""The photos of a profile: their features, which are encoded once, and the score of each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..engine import AnomalyScorer, DetectionResult, UnreadableImage, View
from ..engine.appearance import measures, scale_of
from ..engine.images import ImageReader, LoadedImage, OnError, ReadImage
from ..engine.reference import PreparedReference, require_one_grid
from ..engine.scoring import TILES_AT_ONCE, TileInput, compare, encode_tiles, join, tile_inputs
from ..engine.tiles import TileMerger
from ..engine.turned_copies import TurnedCopies
from ..modeling.bank_content import SCALE
from ..modeling.normal_variation import mean_tokens
from ..modeling.packing import pack, unpack
from ..modeling.prompt_bank import PromptBank
from ..modeling.prompt_query_adapter import unit_patch_tokens
from ..modeling.vision_encoder import ImageFeatures
from ..reporting import Report, print_nothing
from .added_tokens import AddedTokens
from .near_copies import sketch
from .parts import PartOf, part_finder
from .photo_sample import PhotoSample
from .photos import (
    DEFECT,
    ProfilePhoto,
    bank_preprocessing,
    made_by,
    pixel_digest,
)

NO_PART = part_finder(None)


@dataclass(frozen=True)
class PhotoFeatures:
    """Photos and the features of all their tiles, one after the other, on the CPU.

    Attributes:
        photos: in the order of their features.
        tensors: as they lie in a file: "image_embeds" (R, d) and "layer.0", ... (R, 1 + L, d), packed.
        added: tokens of the photos' turned copies, as they lie in a file; empty without copies.
    """

    photos: tuple[ProfilePhoto, ...] = ()
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    added: AddedTokens = field(default_factory=AddedTokens)

    def unpacked(self, rows: Sequence[int] | slice) -> ImageFeatures:
        """The features of some tiles."""
        part = {name: tensor[rows] for name, tensor in self.tensors.items()}
        count = sum(name.startswith("layer.") and not name.endswith(SCALE) for name in part)
        layers = tuple(unpack(f"layer.{index}", part) for index in range(count))
        return ImageFeatures(unpack("image_embeds", part), layers)

    def keep(self, photos: Iterable[ProfilePhoto]) -> "PhotoFeatures":
        """Some of the photos, with their features."""
        photos = list(photos)
        rows = [row for photo in photos for row in range(*photo.rows)]
        moved, first = [], 0
        for photo in photos:
            count = photo.rows[1] - photo.rows[0]
            moved.append(replace(photo, rows=(first, first + count)))
            first += count
        tensors = {name: tensor[rows] for name, tensor in self.tensors.items()}
        return PhotoFeatures(tuple(moved), tensors, self.added.select(rows))

    def joined(self, other: "PhotoFeatures") -> "PhotoFeatures":
        """These photos, then the other ones."""
        if not self.photos or not other.photos:
            return self if self.photos else other
        count = len(self.tensors["image_embeds"])
        moved = (replace(each, rows=(each.rows[0] + count, each.rows[1] + count)) for each in other.photos)
        tensors = {name: torch.cat([tensor, other.tensors[name]]) for name, tensor in self.tensors.items()}
        return PhotoFeatures((*self.photos, *moved), tensors, self.added.joined(other.added, count))

    def bank(self, made_by: dict, view: View, rows: Sequence[int]) -> PromptBank:
        """A prompt bank of some tiles, on the CPU.

        Args:
            made_by: of [`made_by`].
        """
        preprocessing = bank_preprocessing(made_by, view, self.photos)
        layers = tuple(map(unit_patch_tokens, self.unpacked(list(rows)).patch_embeds))
        added, added_of = self.added.select(rows).unpacked(layers)
        return PromptBank(layers, made_by["fingerprint"], preprocessing, added=added, added_of=added_of)

    def wholes(self, photos: Iterable[ProfilePhoto]) -> np.ndarray:
        """(k, n, d) float32 mean unit patch token of each photo in each layer, over all its tiles."""
        means = []
        for photo in photos:  # one after the other: tokens in float32 take twice what the features do
            layers = self.unpacked(slice(*photo.rows)).patch_embeds
            means.append(mean_tokens([unit_patch_tokens(layer) for layer in layers]).mean(0))
        return torch.stack(means).numpy()


@dataclass(frozen=True)
class Feedback:
    """What a long call reports while it works.

    Attributes:
        on_error: called for each photo that cannot be read, which is then left out; without it the error is raised.
        report: called with lines for people.
        progress: show bars.
    """

    on_error: OnError | None = None
    report: Report = print_nothing
    progress: bool = False


def encode_photos(
    scorer: AnomalyScorer,
    images: Iterable,
    role: str,
    view: View,
    storage: str,
    feedback: Feedback,
    copies: TurnedCopies,
    known: Sequence[ProfilePhoto] = (),
    before_each: Callable[[ReadImage], object] = lambda image: None,
    sample: PhotoSample | None = None,
    part_of: PartOf = NO_PART,
) -> PhotoFeatures:
    """Encodes photos, each once, in memory that holds one photo and the features of all.

    A photo with the pixels of another one is named and left out, because it would be compared with itself.

    Args:
        copies: turns them.
        known: photos that are there already.
        before_each: called with each photo that was read, before it is encoded.
        sample: keeps the pixels of a few.
        part_of: says which part a photo shows.
    """
    seen = {photo.digest: photo.name for photo in known}
    roles = {photo.digest: photo.role for photo in known}
    grids = {view.tiles(photo.size, photo.name).grid: photo.name for photo in known[:1]}
    photos, parts, rows = [], [], 0
    for number, image in enumerate(scorer.reader.read(images, view, feedback.on_error)):
        before_each(image)
        if isinstance(image, UnreadableImage):
            continue
        digest = pixel_digest(image.image)
        if digest in seen:
            feedback.report(
                f"{image.name} is a copy of {seen[digest]}{contradiction(roles.get(digest), role)}: left out"
            )
            continue
        seen[digest] = image.name
        grids.setdefault(image.tiles.grid, image.name)
        require_one_grid(view, grids)
        look_at = None if sample is None else sample.keeper(digest, image.tiles)
        looks = Looks(scorer.reader, look_at)
        parts.append(packed_features(scorer, image, storage, copies, looks.add))
        count = len(image.tiles)
        about = sketch(image.image)
        place, part = (rows, rows + count), part_of(number, image.name)
        photos.append(
            ProfilePhoto(image.name, digest, image.tiles.size, role, place, look=looks.mean(), sketch=about, part=part)
        )
        rows += count
    added, added_of = copies.finish()
    return PhotoFeatures(tuple(photos), concatenated(parts), AddedTokens.of(added, added_of, storage))


class Looks:
    """Sums up the `MEASURES` of a photo's tiles.

    Args:
        look_at: called with each tile too.
    """

    def __init__(self, reader: ImageReader, look_at: Callable[[TileInput], object] | None = None):
        self._scale, self._look_at = scale_of(reader.image_processor), look_at
        self._seen: list[list[float]] = []

    def add(self, tile: TileInput):
        self._seen.append(measures(tile.pixel_values[0], *self._scale))
        if self._look_at is not None:
            self._look_at(tile)

    def mean(self) -> tuple[float, ...]:
        return tuple(np.mean(self._seen, axis=0).tolist())


def contradiction(there: str | None, given: str) -> str:
    """What to do where a photo that is given as a defect is there as a good one, or the other way round."""
    if there is None or (there == DEFECT) == (given == DEFECT):
        return ""
    kind = "a known defect" if there == DEFECT else "a good photo"
    return f", which the profile has as {kind} (take that out with --drop to change it)"


def packed_features(
    scorer: AnomalyScorer,
    image: LoadedImage,
    storage: str,
    copies: TurnedCopies | None = None,
    look_at: Callable[[TileInput], object] | None = None,
) -> dict[str, torch.Tensor]:
    """The packed features of an image's tiles.

    Args:
        copies: turns them.
        look_at: called with each tile.

    Raises:
        ValueError: they are not finite as they are stored; names the image.
    """
    parts = []
    for tiles, features in encode_tiles(scorer.model, tile_inputs(scorer.reader, image)):
        if look_at is not None:
            for tile in tiles:
                look_at(tile)
        part = pack("image_embeds", features.image_embeds.cpu(), storage)
        for index, layer in enumerate(features.patch_embeds):
            part |= pack(f"layer.{index}", layer.cpu(), storage)
        if not all(torch.isfinite(tensor).all() for tensor in part.values()):
            raise ValueError(f"{image.name}: its features are not finite in storage {storage!r}: fit with float32.")
        parts.append(part)
        if copies is not None:
            copies.add(tuple(map(unit_patch_tokens, features.patch_embeds)), tiles)
    return concatenated(parts)


def concatenated(parts: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def score_photo(
    scorer: AnomalyScorer,
    features: PhotoFeatures,
    photo: ProfilePhoto,
    reference: PreparedReference,
    score_of: Callable[[DetectionResult], float] = lambda result: result.score,
) -> ProfilePhoto:
    """The photo with its score and its map's peak against a reference.

    Args:
        score_of: the score that decides.
    """
    result = result_of_photo(scorer, features, photo, reference)
    return replace(photo, score=score_of(result), peak=result.peak)


def result_of_photo(
    scorer: AnomalyScorer, features: PhotoFeatures, photo: ProfilePhoto, reference: PreparedReference
) -> DetectionResult:
    """A photo's result against a reference."""
    device, dtype = scorer.device, scorer.model.dtype
    tiles = list(reference.reference.view.tiles(photo.size, photo.name))
    merger = TileMerger(tiles[0].tiles)
    for first in range(0, len(tiles), TILES_AT_ONCE):
        some = tiles[first : first + TILES_AT_ONCE]
        row = photo.rows[0] + first
        stored = features.unpacked(slice(row, row + len(some)))
        layers = tuple(layer.to(device, dtype) for layer in stored.patch_embeds)
        encoded = ImageFeatures(stored.image_embeds.to(device, dtype), layers)
        for tile, tile_score in zip(some, compare(scorer.model, encoded, some, [reference] * len(some)), strict=True):
            merger.add(tile.number, *tile_score)
    return join(scorer.model, merger, reference, photo.name)


def own_rows(photos: Iterable[ProfilePhoto], photo: ProfilePhoto) -> frozenset[int]:
    """Rows of the features of a photo, and of those that show the same part."""
    own = [photo, *(each for each in photos if each.part is not None and each.part == photo.part)]
    return frozenset(row for each in own for row in range(*each.rows))


__all__ = ["Feedback", "PhotoFeatures", "ProfilePhoto", "encode_photos", "made_by", "pixel_digest", "score_photo"]
