"""Fits a profile and updates it: photos in, thresholds out."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from ..engine import AnomalyScorer, PlainReference, View
from ..engine.augments import NONE, require_augment
from ..engine.images import ReadImage, as_list_or_stream
from ..engine.reference import PreparedReference
from ..engine.turned_copies import TurnedCopies
from ..engine.variations import compare_normals, knowing_variations
from ..modeling.coreset import greedy_coreset
from ..modeling.normal_variation import NormalVariation
from ..modeling.prompt_bank import PromptBank
from ..modeling.text_encoder import TextEmbeds
from .acceptance import Acceptance
from .audit import suspects
from .calibration import PARTS, PHOTOS, Calibration, require_defects
from .estimate import TILES_IN_BANK, Estimate
from .fit_settings import ESCAPES, F1, FALSE_ALARMS, FitSettings
from .inspectable import UNSEEN, Inspectable, mean_tokens_of
from .near_copies import near_copies
from .nearest import ComparedBank
from .parts import PartOf, Parts, groups_of, highest, part_finder, require_parts
from .photo_features import Feedback, PhotoFeatures, encode_photos, result_of_photo
from .photo_sample import PhotoSample
from .photos import CALIBRATING, CONFIRMED, DEFECT, GOOD, IN_BANK, ProfilePhoto, made_by
from .places import EVERY, settled
from .split import Split, confirmed_parts, good_parts

KEEPS_ALL = "Where each place is compared with its own, the bank keeps every photo: leave bank_size out."
MOST_NAMED = 3  # photos, in an error
ALIKE = 1e-3  # good photos whose maps all stay below this against one another show one photo again and again


class Calibrated(NamedTuple):
    """What a calibration makes of photos; the fields of [`InspectionProfile`] of these names."""

    settings: FitSettings
    made_by: dict
    features: PhotoFeatures
    method: str
    bank_rows: tuple[int, ...]
    calibration: Calibration
    pixel_threshold: float
    variation: NormalVariation | None
    view: View
    variations: tuple[NormalVariation, ...]
    acceptance: Acceptance | None
    inspectable: Inspectable | None


def fit(
    scorer: AnomalyScorer,
    normal_images: Iterable,
    defects: Iterable | None,
    settings: FitSettings,
    view: View,
    feedback: Feedback,
    sample: PhotoSample | None = None,
    acceptance: Acceptance | None = None,
    parts: Parts | None = None,
) -> tuple[Calibrated, ComparedBank]:
    """See [`InspectionProfile.fit`].

    Args:
        sample: keeps the pixels of a few good photos.
        parts: which photos show one part, beside `settings.part_pattern`.
    """
    require_view(view)
    images, known_defects = photos_of(normal_images), photos_of(() if defects is None else defects)
    good = number_given(images, settings, parts, GOOD)
    require_enough(settings, view, good, number_given(known_defects, settings, parts, DEFECT))
    text_embeds = scorer.encode_text(settings.object_name)  # a word that cannot be encoded is refused before the photos
    given = [(images, GOOD), (known_defects, DEFECT)]
    features, settings = add_photos(scorer, PhotoFeatures(), given, view, settings, feedback, sample, parts)
    view = settled(view, features, settings, feedback.report)
    return calibrate(scorer, settings, view, features, text_embeds, feedback, acceptance)


def update(
    scorer: AnomalyScorer,
    features: PhotoFeatures,
    given: Sequence[tuple[Iterable, str]],
    settings: FitSettings,
    view: View,
    feedback: Feedback,
    acceptance: Acceptance | None = None,
    parts: Parts | None = None,
    inspectable: Inspectable | None = None,
) -> tuple[Calibrated, ComparedBank]:
    """See [`InspectionProfile.update`].

    Args:
        features: of the photos that stay.
        given: (photos, what they are) to be added.
        parts: which of them show one part, beside `settings.part_pattern`.
        inspectable: by which confirmed photos are judged.
    """
    given = [(photos_of(photos), role) for photos, role in given]
    counts = {role: number_given(photos, settings, parts, role) for photos, role in given}
    good, confirmed, known = counts.get(GOOD), counts.get(CONFIRMED), counts.get(DEFECT)
    of_parts = [features.photos[group[0]] for group in groups_of(features.photos)]
    there = Counter(DEFECT if photo.role == DEFECT else GOOD for photo in of_parts)
    more = None if good is None or confirmed is None else there[GOOD] + good + confirmed
    require_enough(settings, view, more, None if known is None else there[DEFECT] + known)
    text_embeds = scorer.encode_text(settings.object_name)
    before = features
    features, settings = add_photos(scorer, features, given, view, settings, feedback, parts=parts)
    if inspectable is not None:
        features = without_uninspectable(features, before, inspectable, feedback)
    return calibrate(scorer, settings, view, features, text_embeds, feedback, acceptance)


def without_uninspectable(
    features: PhotoFeatures, before: PhotoFeatures, inspectable: Inspectable, feedback: Feedback
) -> PhotoFeatures:
    """Features without newly confirmed photos that show too little of a part: they would say that darkness is normal.

    One that is unlike the product stays, because that may be what is taken back, and is named.

    Raises:
        ValueError: there is such a photo, and nobody takes errors.
    """
    known, dropped = {photo.digest for photo in before.photos}, set()
    wholes = mean_tokens_of(before, [photo for photo in before.photos if photo.role in IN_BANK])
    for photo in features.photos:
        if photo.role != CONFIRMED or photo.digest in known:
            continue
        appearance = np.concatenate([photo.look, mean_tokens_of(features, [photo]).ravel()])
        reason = inspectable.reason(appearance.astype(np.float32), wholes)
        if reason in UNSEEN:
            error = ValueError(f"{photo.name} is {reason}: it shows too little of a part to confirm that it is good.")
            if feedback.on_error is None:
                raise error
            feedback.on_error(photo.name, error)
            dropped.add(photo.digest)
        elif reason is not None:
            feedback.report(
                f"look at {photo.name}: by the profile so far it is {reason}. If it shows another product, take it "
                "back with --undo."
            )
    return features.keep(photo for photo in features.photos if photo.digest not in dropped) if dropped else features


def photos_of(given: Any) -> Iterable:
    """Photos as a list or a stream; one photo, of whatever kind, is a list of it.

    Raises:
        ValueError: a folder, which is no photo.
    """
    if isinstance(given, list | tuple) and not given:
        return ()
    photos = as_list_or_stream(given)
    for photo in photos if isinstance(photos, list | tuple) else ():
        if isinstance(photo, str | Path) and Path(photo).is_dir():
            raise ValueError(f"{photo} is a folder: give its photos, such as sorted(Path({str(photo)!r}).iterdir()).")
    return photos


def number_of(photos: Iterable) -> int | None:
    """How many there are; `None` for a stream, which does not know it."""
    return len(photos) if isinstance(photos, Sized) else None


def finder(settings: FitSettings, parts: Parts | None, role: str) -> PartOf:
    """What tells the part of photos of a role: names in order are of the good photos."""
    return part_finder(settings.part_pattern, parts if role == GOOD or isinstance(parts, Mapping) else None)


def number_given(photos: Iterable, settings: FitSettings, parts: Parts | None, role: str) -> int | None:
    """How many parts the photos show, of which each is one by default; `None` where they must be read for it.

    Raises:
        ValueError: a good photo belongs to no part, or there are more or fewer names of parts than photos.
    """
    if settings.part_pattern is None and parts is None:
        return number_of(photos)
    if isinstance(parts, str) or (parts is not None and not isinstance(parts, Sequence | Mapping)):
        raise ValueError(
            f"Expected a name of a part for each photo, in a list or by the photos' names, got {parts!r:.60}."
        )
    if role == GOOD and isinstance(parts, Sequence) and number_of(photos) not in (None, len(parts)):
        raise ValueError(f"There are {len(parts)} names of parts for {number_of(photos)} photos.")
    if not (isinstance(photos, list | tuple) and all(isinstance(photo, str | Path) for photo in photos)):
        return None
    part_of = finder(settings, parts, role)
    shown = [(str(photo), part_of(number, str(photo))) for number, photo in enumerate(photos)]
    if role == GOOD:
        require_parts(shown, settings.part_pattern)
    return len({(part is None, part or name) for name, part in shown})


def require_view(view: Any):
    if not isinstance(view, View):
        raise ValueError(f"Expected a View, got {type(view).__name__}.")


def require_enough(settings: FitSettings, view: View, good: int | None, defects: int | None):
    """Refuses what no fit could end with, before anything is encoded; numbers are `None` where they are not known.

    Raises:
        ValueError: too few photos for the rate, too few defects for the choice, or a bank of chosen photos where each
            tile is compared with those at its own place.
    """
    if good is not None:
        what = PHOTOS if settings.part_pattern is None else PARTS
        Split.of(good, settings.false_alarm_rate, settings.calibration, what=what)
    if defects is not None and settings.choice != FALSE_ALARMS:
        if not defects:
            raise ValueError(f"A threshold by {settings.choice} takes photos of defects: give some.")
        if settings.choice == ESCAPES:
            require_defects(defects, settings.escape_rate)
    if view.by_place and settings.bank_size is not None:
        raise ValueError(KEEPS_ALL)
    require_augment(settings.augment, view)


def add_photos(
    scorer: AnomalyScorer,
    features: PhotoFeatures,
    given: Sequence[tuple[Iterable, str]],
    view: View,
    settings: FitSettings,
    feedback: Feedback,
    sample: PhotoSample | None = None,
    parts: Parts | None = None,
) -> tuple[PhotoFeatures, FitSettings]:
    """Features with those of more photos, each encoded once, and the settings, whose `augment` is then decided.

    Args:
        given: (photos, what they are) to be added.
        sample: keeps the pixels of a few good ones.
        parts: which of them show one part.

    Raises:
        ValueError: there is no photo at all.
    """
    total = sum(len(photos) for photos, _ in given if isinstance(photos, Sized)) or None
    estimate = Estimate(scorer, view, settings, total, feedback.report)
    with tqdm(desc="photos", unit="photo", total=total, disable=not feedback.progress) as bar:
        for photos, role in given:
            kept = sample if role == GOOD else None

            def begin(image: ReadImage):
                bar.update()
                estimate(image)

            copies = TurnedCopies(scorer.model, NONE if role == DEFECT else settings.augment, view, feedback.report)
            added = encode_photos(
                scorer,
                photos,
                role,
                view,
                settings.storage,
                feedback,
                copies,
                features.photos,
                begin,
                kept,
                finder(settings, parts, role),
            )
            features = features.joined(added)
            if role != DEFECT:
                settings = replace(settings, augment=copies.way)
            if not features.photos:
                raise ValueError("At least one good photo that can be read is needed, got none.")
    return without_near_copies(features, feedback), settings


def without_near_copies(features: PhotoFeatures, feedback: Feedback) -> PhotoFeatures:
    """Features without the smaller ones of good photos that show one picture twice.

    A photo whose copy is in the bank scores lower than any new part will, and copies that calibrate count one part
    twice. Photos of defects may show a good photo's part, with a scratch: they stay.
    """
    compared = [photo for photo in features.photos if photo.role != DEFECT]
    parts = [number if photo.part is None else photo.part for number, photo in enumerate(compared)]
    copies = near_copies([photo.sketch for photo in compared], [photo.size for photo in compared], parts)
    for number, kept in sorted(copies.items()):
        copy, whole = compared[number], compared[kept]
        sizes = " of ".join(f"{width}x{height}" for height, width in (copy.size, whole.size))
        feedback.report(f"{copy.name} is a near copy of {whole.name} (the same picture, {sizes} pixels): left out")
    left_out = {compared[number].digest for number in copies}
    return features.keep(photo for photo in features.photos if photo.digest not in left_out) if copies else features


def without_photos(features: PhotoFeatures, names: Iterable[str]) -> PhotoFeatures:
    """Features without the photos of some names.

    Args:
        names: as the photos have them; or the ends of these, such as the file's name, where one photo alone has it.

    Raises:
        ValueError: there is no photo of a name, or more than one; names candidates.
    """
    given = [str(names)] if isinstance(names, str | Path) else list(map(str, names))
    if not given:
        return features
    dropped = {meant(name, [photo.name for photo in features.photos]) for name in given}
    return features.keep(photo for photo in features.photos if photo.name not in dropped)


def meant(name: str, there: Sequence[str]) -> str:
    """The name of the photo that a name means, which may be its end."""
    if name in there:
        return name
    parts = Path(name).parts
    found = [each for each in there if parts and Path(each).parts[-len(parts) :] == parts]
    if len(found) == 1:
        return found[0]
    if found:
        more = ", ..." if len(found) > MOST_NAMED else ""
        raise ValueError(
            f"The profile has {len(found)} photos {name}: name one of {', '.join(sorted(found)[:MOST_NAMED])}{more}"
        )
    names = {Path(each).name: each for each in there}
    near = [names[each] for each in difflib.get_close_matches(Path(name).name, names, MOST_NAMED)]
    if near:
        raise ValueError(f"The profile has no photo {name}; near it: {', '.join(near)}")
    raise ValueError(f"The profile has no photo {name}; it has {', '.join(sorted(there)[:MOST_NAMED])}, ...")


def calibrate(
    scorer: AnomalyScorer,
    settings: FitSettings,
    view: View,
    features: PhotoFeatures,
    text_embeds: TextEmbeds,
    feedback: Feedback,
    acceptance: Acceptance | None = None,
) -> tuple[Calibrated, ComparedBank]:
    """Draws which photos make the bank, scores each photo against the bank without its fold, and sets the thresholds.

    Args:
        text_embeds: of the object's name.
        acceptance: by which regions decide; its usual levels are made here.
    """
    if acceptance is not None:
        for photo in features.photos:
            acceptance.require_room(photo.size, photo.name)
    what = require_one_kind(features.photos, settings)
    good, confirmed = len(good_parts(features.photos)), len(confirmed_parts(features.photos))
    split = Split.of(good, settings.false_alarm_rate, settings.calibration, confirmed, what)
    features = replace(features, photos=tuple(split.assign(features.photos, settings.seed)))
    about = made_by(scorer, settings.object_name)
    rows = bank_rows(features, settings, view, about)
    bank = features.bank(about, view, rows).to(scorer.device, scorer.model.dtype)
    compared = compared_bank(scorer, bank, view, rows, text_embeds, feedback)
    photos, folds = list(features.photos), split.folds(features.photos, settings.seed)
    levels: dict[int, list[float]] = {}
    for fold in tqdm(folds, desc="calibrating", unit="fold", disable=not feedback.progress):
        own = {row for number in fold for row in range(*photos[number].rows)}
        if not compared.others(own):
            name = photos[fold[0]].name
            larger = "" if settings.bank_size is None else f", and bank_size={settings.bank_size} leaves none"
            raise ValueError(f"{name} would be compared with nothing: the bank needs a photo beside it{larger}.")
        without: PreparedReference | None = None
        for number in fold:
            photo, against = photos[number], compared.for_photo(photos[number].rows, own)
            if against is None:
                against = without = without or compared.without(own)
            result = result_of_photo(scorer, features, photo, against)
            photos[number] = replace(photo, score=result.score, peak=result.peak)
            if acceptance is not None:
                levels[number] = acceptance.levels(result)
    if acceptance is not None:
        acceptance = acceptance.fitted([levels[number] for number, photo in enumerate(photos) if photo.role in IN_BANK])
        photos = [replace(each, score=max(acceptance.scores(levels[number]))) for number, each in enumerate(photos)]
    calibration, pixel_calibration = choose_thresholds(photos, settings)
    for suspect in suspects(photos):
        feedback.report(
            f"look at {suspect.name}: among the good photos it stands out (score {suspect.score:.3f}, "
            f"{suspect.deviations:.1f} deviations above the others). A defect that stays in becomes the standard."
        )
    features = replace(features, photos=tuple(photos))
    # what a person took for good in the dark does not make darkness usual
    usual = [photo for photo in photos if photo.role in IN_BANK and photo.role != CONFIRMED]
    return (
        Calibrated(
            settings,
            about,
            features,
            split.method,
            tuple(rows),
            calibration,
            pixel_calibration.threshold,
            compared.bank.variation,
            view,
            tuple(each.to("cpu") for each in compared.reference.variations),
            acceptance,
            Inspectable.of([photo.look for photo in usual], mean_tokens_of(features, usual)) if usual else None,
        ),
        compared,
    )


def require_one_kind(photos: Sequence[ProfilePhoto], settings: FitSettings) -> str:
    """Whether photos or parts are counted.

    Raises:
        ValueError: only some good photos belong to a part, or a part has good photos and photos of defects.
    """
    good = [photo for photo in photos if photo.role not in (CONFIRMED, DEFECT)]
    require_parts(((photo.name, photo.part) for photo in good), settings.part_pattern)
    for group in groups_of(photos):
        if len({photos[number].role == DEFECT for number in group}) > 1:
            raise ValueError(
                f"The part {photos[group[0]].part} has photos among the good ones and among the defects: it is one or "
                "the other. Give all of its photos with --defects, or none."
            )
    return PHOTOS if all(photo.part is None for photo in good) else PARTS


def compared_bank(
    scorer: AnomalyScorer,
    bank: PromptBank,
    view: View,
    rows: Sequence[int],
    text_embeds: TextEmbeds,
    feedback: Feedback = Feedback(),
) -> ComparedBank:
    """Compares the photos of a bank with one another.

    Args:
        bank: on the scorer's device, without its variation.
        rows: of the photos' features, those that make the bank.
    """
    comparisons = compare_normals(scorer.model, bank, view, feedback.progress)
    prepared = PreparedReference(PlainReference(view=view), bank, text_embeds)
    return ComparedBank(knowing_variations(scorer.model, prepared, comparisons), tuple(rows), comparisons)


def bank_rows(features: PhotoFeatures, settings: FitSettings, view: View, about: dict) -> list[int]:
    """Which tiles make the bank: all of its photos, or the coreset of the size that was chosen.

    Raises:
        ValueError: a size is chosen where each tile is compared with those at its own place.
    """
    in_bank = [photo for photo in features.photos if photo.role in IN_BANK]
    rows = [row for photo in in_bank for row in range(*photo.rows)]
    whole_photos = len(rows) == len(in_bank)
    most = settings.bank_size or (len(rows) if whole_photos or view.by_place else TILES_IN_BANK)
    if most >= len(rows):
        return rows
    if view.by_place:
        raise ValueError(KEEPS_ALL)
    every = 1 if whole_photos else EVERY
    layers = tuple(layer[:, ::every].contiguous() for layer in features.bank(about, view, rows).features)
    chosen = sorted(greedy_coreset(layers, most))
    return [rows[index] for index in chosen]


def choose_thresholds(photos: Sequence[ProfilePhoto], settings: FitSettings) -> tuple[Calibration, Calibration]:
    """The calibrations of scores and of maps: of a part's photos the highest counts.

    Raises:
        ValueError: all good photos are alike, or there are too few defects for the choice.
    """
    good = [photo for photo in photos if photo.role in CALIBRATING]
    scores, defects = highest(good), highest([photo for photo in photos if photo.role == DEFECT])
    if max(photo.peak for photo in good) < ALIKE:
        raise ValueError(
            f"The {len(good)} good photos that calibrate are all alike (no map goes above {ALIKE} against the others), "
            "as if one photo was taken again and again: they do not say how good parts differ. Take photos of "
            "different parts, on different days."
        )
    if settings.choice != FALSE_ALARMS and not defects:
        raise ValueError(f"A threshold by {settings.choice} takes photos of defects: give some.")
    by_choice: dict[str, Callable[[], Calibration]] = {
        FALSE_ALARMS: lambda: Calibration.at_rate(scores, settings.false_alarm_rate),
        ESCAPES: lambda: Calibration.at_escape_rate(scores, defects, settings.escape_rate),
        F1: lambda: Calibration.at_best_f1(scores, defects),
    }
    return by_choice[settings.choice](), Calibration.at_rate(highest(good, "peak"), settings.false_alarm_rate)
