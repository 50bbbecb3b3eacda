"""Pastes defects on good photos of a profile, and scores them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from ..engine import AnomalyScorer, DetectionResult, PlainReference
from ..engine.appearance import scale_of
from ..engine.images import ImageReader
from ..engine.reference import PreparedReference
from ..engine.scoring import TILES_AT_ONCE, TileScore, compare, encode, tile_inputs
from ..engine.tiles import Tile, TileMerger, View
from ..modeling.prompt_query_adapter import unit_patch_tokens
from ..modeling.text_encoder import TextEmbeds
from ..modeling.vision_encoder import ImageFeatures
from ..processing.image_loading import to_numpy
from ..synthetic.pasting import part_of, paste_defect
from .calibration import Calibration
from .differing_place import differing_place
from .fit_settings import FALSE_ALARMS
from .near_search import NearSearch
from .nearest import ComparedBank
from .parts import groups_of, highest
from .pasted_defects import CELLS, Cell, HalfBank, PastedDefects
from .photo_features import Feedback, PhotoFeatures, own_rows, score_photo
from .photo_sample import MOST_PHOTOS, PhotoSample, SampledTile, looked_at
from .photos import CALIBRATING, DEFECT, IN_BANK, ProfilePhoto, pixel_digest

if TYPE_CHECKING:
    from .profile import InspectionProfile

# one defect of each kind, size and strength a round, and a round for so many photos: 40 or 80 defects
PHOTOS_A_ROUND, FEWEST_ROUNDS, MOST_ROUNDS = 8, 1, 2
LONGEST = 0.5  # of a tile's side
HALVED_ROUNDS = 1  # whose defects half of the bank looks at too
FEWEST_HALVED, MOST_HALVED = 8, 100  # photos of which half is looked at too: fewer say little, more take long


class SpoiledPhoto(NamedTuple):
    """A good photo that gets defects.

    Attributes:
        tile: of the photo, on which they are pasted.
        image: that tile as the model sees it, (S, S, 3) float32 in [0, 1].
        allowed: (S, S), where defects may lie.
        left_out: rows of the photo's part, with which it is not compared.
    """

    about: ProfilePhoto
    tile: Tile
    image: np.ndarray
    allowed: np.ndarray
    left_out: frozenset[int]


class Half(NamedTuple):
    """Half of the bank's photos: their rows, and the threshold that they give."""

    rows: frozenset[int]
    threshold: float


def paste_defects(
    scorer: AnomalyScorer,
    profile: "InspectionProfile",
    sample: PhotoSample,
    compared_bank: ComparedBank,
    feedback: Feedback,
) -> PastedDefects | None:
    """Pastes defects on the sampled photos, and scores each against the bank without its photo.

    Args:
        compared_bank: the profile's bank.

    Returns:
        What came of it; `None` if the sample has none of the profile's good photos.
    """
    half, sampled = half_of(scorer, profile, compared_bank), chosen(profile, sample)
    photos = [spoiled_photo(scorer, profile.features, each, sample.tiles[each.digest]) for each in sampled]
    if not photos:
        return None
    rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, len(profile.good_photos) // PHOTOS_A_ROUND))
    scores, by_half = score_spoiled(scorer, profile, photos, compared_bank, half, rounds, feedback)
    return PastedDefects(
        profile.settings.seed,
        len(photos),
        tuple(Cell(*cell, tuple(row)) for cell, row in zip(CELLS, scores.tolist(), strict=True)),
        min(photos[0].tile.tiles.side) / len(photos[0].image),
        differing_place(scorer, profile.features, [photo.about for photo in photos], compared_bank),
        half and half_bank(half, profile, scores[:, :HALVED_ROUNDS], by_half),
    )


def score_spoiled(
    scorer: AnomalyScorer,
    profile: "InspectionProfile",
    photos: Sequence[SpoiledPhoto],
    compared_bank: ComparedBank,
    half: Half | None,
    rounds: int,
    feedback: Feedback,
) -> tuple[np.ndarray, np.ndarray]:
    """The scores (cells, rounds) of photos with a defect each, and those of the first rounds by half of the bank."""
    scores, by_half = np.zeros((len(CELLS), rounds)), np.zeros((len(CELLS), HALVED_ROUNDS))
    seed, text_embeds = profile.settings.seed, compared_bank.reference.text_embeds
    rng = np.random.default_rng(seed)
    draws = [(int(cell), turn) for turn in range(rounds) for cell in rng.permutation(len(CELLS))]
    with tqdm(total=len(draws), desc="pasted defects", unit="defect", disable=not feedback.progress) as bar:
        for number, photo in enumerate(photos):
            other = photos[(number + 1) % len(photos)].image
            own = draws[number :: len(photos)]
            near = partial(compared_bank.near_photo, profile.features, photo.about.rows, photo.tile)
            by_all = near(photo.left_out)
            by_some = None if half is None else near(photo.left_out | (frozenset(compared_bank.rows) - half.rows))
            for first in range(0, len(own), TILES_AT_ONCE):
                some = own[first : first + TILES_AT_ONCE]
                images = np.stack([spoil(photo, other, seed, *draw) for draw in some])
                features = encode(scorer.model, pixel_values(scorer.reader, images))
                for draw, tile in zip(some, compared(scorer, features, photo.tile, by_all, text_embeds), strict=True):
                    scores[draw] = deciding_score(profile, photo.tile, tile)
                early = [place for place, (_, turn) in enumerate(some) if turn < HALVED_ROUNDS]
                if early and by_some is not None:
                    found = compared(scorer, features.select(early), photo.tile, by_some, text_embeds)
                    for place, tile in zip(early, found, strict=True):
                        by_half[some[place]] = deciding_score(profile, photo.tile, tile)
                bar.update(len(some))
    return scores, by_half


def compared(
    scorer: AnomalyScorer, features: ImageFeatures, tile: Tile, search: NearSearch, text_embeds: TextEmbeds
) -> list[TileScore]:
    """Scores features of several images of one tile."""
    banks = search.nearest([unit_patch_tokens(layer) for layer in features.patch_embeds])
    anywhere = PlainReference(view=replace(tile.tiles.view, same_place=False))
    references = [PreparedReference(anywhere, bank, text_embeds) for bank in banks]
    return compare(scorer.model, features, [tile] * len(references), references)


def deciding_score(profile: "InspectionProfile", tile: Tile, scored: TileScore) -> float:
    """By which a photo with this tile is decided; with an acceptance as if its other tiles showed nothing."""
    if profile.acceptance is None:
        return scored.score
    merger = TileMerger(tile.tiles)
    merger.add(tile.number, *scored)
    view = profile.view
    return profile.acceptance.score(
        DetectionResult("", merger.score, merger.map, tile.tiles.size, region=view.region, ignore=view.ignore)
    )


def half_bank(half: Half, profile: "InspectionProfile", scores: np.ndarray, by_half: np.ndarray) -> HalfBank:
    """Counts what half of the bank and all of it find of the same defects (cells, rounds)."""
    by_rate = Calibration.at_rate(profile.calibration.scores.tolist(), profile.settings.false_alarm_rate)
    found, by_all = int((by_half > half.threshold).sum()), int((scores > by_rate.threshold).sum())
    return HalfBank(len(half.rows), scores.size, found, by_all)


def chosen(profile: "InspectionProfile", sample: PhotoSample) -> list[ProfilePhoto]:
    """The sampled photos that get defects: if there are any, those that calibrate and are no false alarms already."""
    photos = [photo for photo in profile.features.photos if photo.digest in sample.tiles and photo.role != DEFECT]
    photos = [photo for photo in photos if photo.role in CALIBRATING] or photos
    photos = [photo for photo in photos if photo.score <= profile.calibration.threshold] or photos
    return sorted(photos, key=lambda photo: sample.rank(photo.digest))


def half_of(scorer: AnomalyScorer, profile: "InspectionProfile", compared_bank: ComparedBank) -> Half | None:
    """Half of the bank's photos, by the profile's seed; `None` where that says little or takes long."""
    photos = profile.features.photos
    in_bank = [photo for photo in photos if photo.role in IN_BANK]
    calibrating = [photo for photo in photos if photo.role in CALIBRATING]
    whole_photos = [photo.rows[0] for photo in in_bank] == list(profile.bank_rows)  # neither cut nor chosen among
    few_enough = FEWEST_HALVED <= len(groups_of(in_bank)) and len(calibrating) <= MOST_HALVED
    if not (whole_photos and few_enough and profile.settings.choice == FALSE_ALARMS):
        return None
    parts = groups_of(in_bank)
    drawn = np.random.default_rng([profile.settings.seed, len(parts)]).permutation(len(parts))
    half = (in_bank[number] for part in drawn[: len(parts) // 2] for number in parts[part])
    rows = frozenset(photo.rows[0] for photo in half)
    others, scored = frozenset(profile.bank_rows) - rows, []
    for photo in calibrating:
        left_out = others | own_rows(photos, photo)
        reference = compared_bank.for_photo(photo.rows, left_out) or compared_bank.without(left_out)
        scored.append(score_photo(scorer, profile.features, photo, reference, profile.deciding_score))
    rate = profile.settings.false_alarm_rate
    return Half(rows, Calibration.at_rate(highest(scored), rate).threshold)


def spoiled_photo(
    scorer: AnomalyScorer, features: PhotoFeatures, photo: ProfilePhoto, sampled: SampledTile
) -> SpoiledPhoto:
    image = colours(scorer.reader, sampled.pixel_values)
    seen = looked_at(sampled.tile, len(image))
    on_part = seen & part_of(image)
    allowed = on_part if on_part.any() else seen
    return SpoiledPhoto(photo, sampled.tile, image, allowed, own_rows(features.photos, photo))


def spoil(photo: SpoiledPhoto, other: np.ndarray, seed: int, cell: int, turn: int) -> np.ndarray:
    """The photo's tile (S, S, 3) with one defect.

    Args:
        other: another photo's tile, of which a piece may be pasted.
        cell: the number of the defect's kind, size and strength.
        turn: which round.
    """
    kind, size, strength = CELLS[cell]
    tiles = photo.tile.tiles
    length = size * min(tiles.region[2:])
    across, down = (min(LONGEST, length / side) for side in tiles.side)
    rng = np.random.default_rng([seed, cell, turn])
    return paste_defect(rng, photo.image, photo.allowed, kind, (across, down), strength, other)


def colours(reader: ImageReader, values: torch.Tensor) -> np.ndarray:
    """(S, S, 3) float32 in [0, 1] of pixel values (1, 3, S, S)."""
    mean, deviation = scale_of(reader.image_processor)
    return np.ascontiguousarray(np.moveaxis(to_numpy(values[0]) * deviation + mean, 0, -1))


def pixel_values(reader: ImageReader, images: np.ndarray) -> torch.Tensor:
    """(B, 3, S, S) of images (B, S, S, 3) in [0, 1]."""
    mean, deviation = scale_of(reader.image_processor)
    return torch.from_numpy((np.moveaxis(images, -1, 1) - mean) / deviation)


def sampled_again(reader: ImageReader, photos: Iterable[ProfilePhoto], view: View, seed: int) -> PhotoSample:
    """A sample of photos that are opened by their names; one that is gone or was changed is passed over."""
    sample = PhotoSample(seed)
    for photo in sorted(photos, key=lambda photo: sample.rank(photo.digest)):
        if len(sample.tiles) == MOST_PHOTOS:
            break
        try:
            image = reader.load(photo.name, view)
        except (OSError, ValueError):
            continue
        if pixel_digest(image.image) == photo.digest and (keep := sample.keeper(photo.digest, image.tiles)):
            for tile in tile_inputs(reader, image):
                keep(tile)
    return sample
