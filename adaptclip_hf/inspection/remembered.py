"""The photos of a profile: their features, encoded once, and what was made of each."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice

import torch
from PIL import Image

from ..engine.detector import IMAGES_AT_ONCE, AnomalyDetector, OnError
from ..engine.reference import GRID, VIEW, require_one_grid
from ..engine.view import Mosaic, View
from ..modeling.modeling_adaptclip import unit_patch_tokens
from ..modeling.packing import SCALE, pack, unpack
from ..modeling.prompt_bank import PromptBank
from ..modeling.text_encoder import TextEmbeds
from ..modeling.vision_encoder import ImageFeatures
from ..reporting import Report

# what a photo is to a profile: good (and not yet drawn), in the bank alone, calibrating alone, both (leave-one-out), a
# false alarm that was confirmed as good (in the bank), or a defect
GOOD, BANK, CALIBRATION, BOTH, CONFIRMED, DEFECT = "good", "bank", "calibration", "both", "confirmed", "defect"
IN_BANK, CALIBRATING = (BANK, BOTH, CONFIRMED), (CALIBRATION, BOTH)


@dataclass(frozen=True)
class RememberedPhoto:
    """One photo of a profile.

    Attributes:
        name: path or URL, or what kind of thing it was.
        digest: SHA-256 of its pixels.
        size: (height, width).
        role: see above.
        rows: where its pieces' features lie, [first, end).
        score, peak: of the photo and its map, against the bank without it.
    """

    name: str
    digest: str
    size: tuple[int, int]
    role: str
    rows: tuple[int, int]
    score: float | None = None
    peak: float | None = None

    def as_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict) -> "RememberedPhoto":
        return cls(**{**content, "size": tuple(content["size"]), "rows": tuple(content["rows"])})


@dataclass(frozen=True)
class PhotoMemory:
    """Photos and the features of all their pieces, one after the other, on the CPU.

    Attributes:
        photos: in the order of their features.
        tensors: as they lie in a file: "image_embeds" (R, d) and "layer.0", ... (R, 1 + L, d), packed.
    """

    photos: tuple[RememberedPhoto, ...]
    tensors: dict[str, torch.Tensor]

    def features(self, rows: Sequence[int] | slice) -> ImageFeatures:
        """Of some pieces."""
        part = {name: tensor[rows] for name, tensor in self.tensors.items()}
        count = sum(name.startswith("layer.") and not name.endswith(SCALE) for name in part)
        layers = tuple(unpack(f"layer.{index}", part) for index in range(count))
        return ImageFeatures(unpack("image_embeds", part), layers)

    def keep(self, photos: Iterable[RememberedPhoto]) -> "PhotoMemory":
        """The memory of some of its photos."""
        photos = list(photos)
        rows = [row for photo in photos for row in range(*photo.rows)]
        moved, first = [], 0
        for photo in photos:
            count = photo.rows[1] - photo.rows[0]
            moved.append(replace(photo, rows=(first, first + count)))
            first += count
        return PhotoMemory(tuple(moved), {name: tensor[rows] for name, tensor in self.tensors.items()})

    def joined(self, other: "PhotoMemory") -> "PhotoMemory":
        """This memory's photos, then another one's."""
        count = len(self.tensors["image_embeds"])
        moved = (replace(each, rows=(each.rows[0] + count, each.rows[1] + count)) for each in other.photos)
        tensors = {name: torch.cat([tensor, other.tensors[name]]) for name, tensor in self.tensors.items()}
        return PhotoMemory((*self.photos, *moved), tensors)

    def bank(self, made_by: dict, view: View, rows: Sequence[int]) -> PromptBank:
        """A prompt bank of some pieces, on the CPU.

        Args:
            made_by: of [`AnomalyDetector.describe`].
        """
        preprocessing = made_by["preprocessing"] | {VIEW: view.key()}
        if view.same_place:
            preprocessing[GRID] = str(view.plan(self.photos[0].size, self.photos[0].name).grid)
        layers = self.features(list(rows)).patch_embeds
        return PromptBank(tuple(map(unit_patch_tokens, layers)), made_by["fingerprint"], preprocessing)


def remember_photos(
    detector: AnomalyDetector,
    images: Iterable,
    role: str,
    view: View,
    storage: str,
    report: Report,
    on_error: OnError | None = None,
    known: Sequence[RememberedPhoto] = (),
    after_each: Callable[[], object] = lambda: None,
) -> PhotoMemory | None:
    """Encodes photos, each once, in memory that holds one photo and the features of all; `None` without a photo.

    A photo whose pixels are those of another is named and left out: counted twice it would vouch for itself.

    Args:
        known: photos that are there already.
    """
    seen = {photo.digest: photo.name for photo in known}
    grids = {view.plan(photo.size, photo.name).grid: photo.name for photo in known[:1]}
    photos, parts, rows = [], [], 0
    for photo in detector.read(images, view, on_error):
        after_each()
        if photo.error is not None:
            continue
        digest = pixel_digest(photo.image)
        if digest in seen:
            report(f"{photo.name} is a copy of {seen[digest]}: left out")
            continue
        seen[digest] = photo.name
        grids.setdefault(photo.pieces.grid, photo.name)
        require_one_grid(view, grids)
        parts.append(encode_pieces(detector, photo.pieces, storage))
        count = len(photo.pieces)
        photos.append(RememberedPhoto(photo.name, digest, photo.pieces.size, role, (rows, rows + count)))
        rows += count
    if not photos:
        return None
    return PhotoMemory(tuple(photos), {name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def encode_pieces(detector: AnomalyDetector, pieces, storage: str) -> dict[str, torch.Tensor]:
    """The packed features of a photo's pieces, a few pieces at a time."""
    parts, waiting = [], iter(pieces)
    while together := list(islice(waiting, IMAGES_AT_ONCE)):
        features = detector.encode(torch.cat([detector.pixel_values(piece) for piece in together]))
        part = pack("image_embeds", features.image_embeds.cpu(), storage)
        for index, layer in enumerate(features.patch_embeds):
            part |= pack(f"layer.{index}", layer.cpu(), storage)
        parts.append(part)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def score_photo(
    detector: AnomalyDetector,
    memory: PhotoMemory,
    photo: RememberedPhoto,
    view: View,
    bank: PromptBank,
    text_embeds: TextEmbeds,
) -> RememberedPhoto:
    """The photo with its score and its map's peak against a bank."""
    pieces = view.plan(photo.size, photo.name)
    mosaic = Mosaic(pieces)
    for start in range(0, len(pieces), IMAGES_AT_ONCE):
        numbers = range(start, min(start + IMAGES_AT_ONCE, len(pieces)))
        features = memory.features(slice(photo.rows[0] + numbers.start, photo.rows[0] + numbers.stop))
        features = ImageFeatures(
            features.image_embeds.to(detector.device, detector.model.dtype),
            tuple(layer.to(detector.device, detector.model.dtype) for layer in features.patch_embeds),
        )
        places = [(pieces, number) for number in numbers]
        scored = detector.to_host(*detector.score_pieces(features, places, [bank] * len(places), text_embeds))
        for number, each in zip(numbers, scored, strict=True):
            mosaic.add(number, *each)
    result = detector.result(photo.name, None, mosaic, few_shot=True)
    return replace(photo, score=result.score, peak=result.peak)


def pixel_digest(image: Image.Image) -> str:
    """SHA-256 of an RGB image's size and pixels."""
    return hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()


__all__ = ["PhotoMemory", "RememberedPhoto", "pixel_digest", "remember_photos", "score_photo"]
