"""How a profile is made, and made anew: photos in, thresholds out."""

from collections.abc import Iterable, Sequence, Sized
from dataclasses import replace

from tqdm.auto import tqdm

from ..engine import AnomalyDetector, View
from ..engine.detector import OnError, as_list_or_stream
from ..modeling.coreset import greedy_coreset
from ..reporting import Report
from .calibration import Calibration
from .plan import Plan
from .profile import InspectionProfile, made_by
from .remembered import (
    CALIBRATING,
    CONFIRMED,
    DEFECT,
    GOOD,
    IN_BANK,
    PhotoMemory,
    RememberedPhoto,
    remember_photos,
    score_photo,
)
from .settings import ESCAPES, F1, FALSE_ALARMS, Settings

TILES_IN_BANK = 64  # where photos are cut into tiles: searching all of them would take minutes an image
ALIKE = 1e-3  # the highest score of good photos against one another, below which they show one photo taken again


def fit_profile(
    detector: AnomalyDetector,
    normal_images: Iterable,
    defects: Iterable | None,
    settings: Settings,
    view: View,
    model: str,
    on_error: OnError | None,
    report: Report,
    progress: bool,
) -> InspectionProfile:
    """See [`InspectionProfile.fit`]."""
    images = as_list_or_stream(normal_images)
    if isinstance(images, list | tuple):  # refused before anything is encoded
        Plan.of(len(images), settings.false_alarm_rate, settings.calibration)
    given = [(images, GOOD), (as_list_or_stream(defects) if defects is not None else (), DEFECT)]
    memory = add_photos(detector, None, given, view, settings.storage, on_error, report, progress)
    return calibrate(detector, model, settings, view, memory, report, progress)


def update_profile(
    profile: InspectionProfile,
    detector: AnomalyDetector,
    given: Sequence[tuple[Iterable, str]],
    drop: Iterable[str],
    settings: Settings,
    on_error: OnError | None,
    report: Report,
    progress: bool,
) -> InspectionProfile:
    """See [`InspectionProfile.update`].

    Args:
        given: (photos, what they are) to be added.
    """
    profile.require_match(detector)
    if settings.storage != profile.settings.storage:
        raise ValueError("Features stay as they are stored: fit a new profile for another storage.")
    memory = profile.memory
    if drop := set(map(str, drop)):
        names = {photo.name for photo in memory.photos}
        if missing := sorted(drop - names):
            raise ValueError(f"The profile has no photo {missing[0]}; it has {', '.join(sorted(names)[:3])}, ...")
        memory = memory.keep(photo for photo in memory.photos if photo.name not in drop)
    memory = add_photos(detector, memory, given, profile.view, settings.storage, on_error, report, progress)
    return calibrate(detector, profile.model, settings, profile.view, memory, report, progress)


def add_photos(
    detector: AnomalyDetector,
    memory: PhotoMemory | None,
    given: Sequence[tuple[Iterable, str]],
    view: View,
    storage: str,
    on_error: OnError | None,
    report: Report,
    progress: bool,
) -> PhotoMemory:
    """A memory with more photos, each encoded once.

    Raises:
        ValueError: there is no photo at all.
    """
    total = sum(len(photos) for photos, _ in given if isinstance(photos, Sized)) or None
    with tqdm(desc="photos", unit="photo", total=total, disable=not progress) as bar:
        for photos, role in given:
            known = memory.photos if memory else ()
            added = remember_photos(
                detector, photos, role, view, storage, report, on_error, known, after_each=bar.update
            )
            memory = memory.joined(added) if memory and added else memory or added
            if memory is None:
                raise ValueError("At least one good photo that can be read is needed, got none.")
    return memory


def calibrate(
    detector: AnomalyDetector,
    model: str,
    settings: Settings,
    view: View,
    memory: PhotoMemory,
    report: Report,
    progress: bool,
) -> InspectionProfile:
    """Draws who makes the bank, scores each photo against it without itself, and chooses the thresholds."""
    confirmed = sum(photo.role == CONFIRMED for photo in memory.photos)
    good = sum(photo.role != DEFECT for photo in memory.photos) - confirmed
    plan = Plan.of(good, settings.false_alarm_rate, settings.calibration, confirmed)
    memory = replace(memory, photos=tuple(plan.assign(memory.photos, settings.seed)))
    rows = [row for photo in memory.photos if photo.role in IN_BANK for row in range(*photo.rows)]
    whole_photos = len(rows) == sum(photo.role in IN_BANK for photo in memory.photos)
    most = settings.bank_size or (len(rows) if whole_photos or view.same_place else TILES_IN_BANK)
    if view.same_place and most < len(rows):
        raise ValueError("Where each place is compared with its own, the bank keeps every photo: leave bank_size out.")
    about = made_by(detector, settings.object_name)
    bank = memory.bank(about, view, rows)
    if most < len(rows):
        chosen = sorted(greedy_coreset(bank.features, most))
        rows, bank = [rows[index] for index in chosen], bank.select(chosen)
    bank = bank.to(detector.device, detector.model.dtype)
    text_embeds = detector.encode_text(settings.object_name)
    photos = []
    for photo in tqdm(memory.photos, desc="calibrating", unit="photo", disable=not progress):
        others = [index for index, row in enumerate(rows) if not photo.rows[0] <= row < photo.rows[1]]
        if not others:
            raise ValueError(f"{photo.name} would be compared with nothing: the bank needs a photo beside it.")
        its_bank = bank if len(others) == len(rows) else bank.select(others)
        photos.append(score_photo(detector, memory, photo, view, its_bank, text_embeds))
    memory = replace(memory, photos=tuple(photos))
    calibration, pixel_calibration = choose_thresholds(photos, settings)
    profile = InspectionProfile(
        model, about, settings, view, memory, plan.method, tuple(rows), calibration, pixel_calibration.threshold
    )
    audit(profile, report)
    return profile


def choose_thresholds(photos: Sequence[RememberedPhoto], settings: Settings) -> tuple[Calibration, Calibration]:
    """Of scores, and of maps.

    Raises:
        ValueError: all good photos are alike, or the defects do not carry the choice.
    """
    good = [photo for photo in photos if photo.role in CALIBRATING]
    scores, defects = ([photo.score for photo in some] for some in (good, of_role(photos, DEFECT)))
    if max(scores) < ALIKE:
        raise ValueError(
            f"The {len(good)} good photos that calibrate are all alike (none scores above {ALIKE} against the others), "
            "as if one photo was taken again and again: they do not say how good parts differ. Take photos of "
            "different parts, on different days."
        )
    if settings.choice != FALSE_ALARMS and not defects:
        raise ValueError(f"A threshold by {settings.choice} takes photos of defects: give some.")
    by_choice = {
        FALSE_ALARMS: lambda: Calibration.at_rate(scores, settings.false_alarm_rate),
        ESCAPES: lambda: Calibration.at_escape_rate(scores, defects, settings.escape_rate),
        F1: lambda: Calibration.at_best_f1(scores, defects),
    }
    return by_choice[settings.choice](), Calibration.at_rate([each.peak for each in good], settings.false_alarm_rate)


def audit(profile: InspectionProfile, report: Report):
    """Names good photos that look bad among the others."""
    for suspect in profile.suspects():
        report(
            f"look at {suspect.name}: among the good photos it stands out (score {suspect.score:.3f}, "
            f"{suspect.deviations:.1f} deviations above the others). A defect that stays in becomes the standard."
        )


def of_role(photos: Iterable[RememberedPhoto], role: str) -> list[RememberedPhoto]:
    return [photo for photo in photos if photo.role == role]
