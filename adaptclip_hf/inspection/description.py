"""What a profile is, in words for people."""

from typing import TYPE_CHECKING

from ..engine.augments import ROTATIONS
from ..runtimes.description import lowered
from .calibration import Calibration, percent
from .fit_settings import ESCAPES, F1, FALSE_ALARMS
from .model_match import WEIGHTS, maker
from .parts import UsualPart, groups_of, named
from .photos import DEFECT, IN_BANK
from .split import HOW, PROMISES, SPLIT, asked_and_given, rates
from .verdict_text import WARNING

if TYPE_CHECKING:
    from .deciding import DecidingProfile

ALARMING = 0.2  # of good parts: a rate of false alarms that nobody asked for and nobody can work with


def describe(profile: "DecidingProfile") -> str:
    """A few lines for people: what it is made of, and what may be expected of it."""
    photos, calibration = profile.features.photos, profile.calibration
    chosen, expected = profile.settings.choice != FALSE_ALARMS, calibration.expected_rate
    in_bank, count = [photo for photo in photos if photo.role in IN_BANK], len(calibration.scores)
    calibrating, what, of_parts, by_parts = str(count), profile.calibrates, "", ""
    if profile.usual_part is not None:
        calibrating, of_parts = f"{count} parts", " of parts"
        by_parts = f" of {len(groups_of(in_bank))} parts"
    choice = {
        FALSE_ALARMS: f"a false-alarm rate of {percent(profile.settings.false_alarm_rate)}",
        ESCAPES: f"an escape rate of {percent(profile.settings.escape_rate)}",
        F1: "the best F1",
    }[profile.settings.choice]
    lines = [
        f"{len(in_bank)} good photos{by_parts} in the bank, {calibrating} calibrate, {HOW[profile.method]}; "
        f"{rates(len(calibration.scores), what)}",
        f"threshold: score {calibration.threshold:.4f}, by {choice}; of maps {profile.pixel_threshold:.4f}",
        *(() if chosen else (asked_and_given(count, profile.settings.false_alarm_rate, expected, what),)),
        f"false alarms: {'at most' if profile.method == SPLIT else 'about'} {percent(expected)}"
        f"{of_parts} on average, below {percent(calibration.certain_rate)} with 95 % certainty",
        f"promise: {PROMISES[profile.method]}",
        warning(profile),
    ]
    if profile.usual_part is not None:
        lines.insert(1, describe_parts(profile, profile.usual_part))
    if profile.features.added.tensors:
        how = "turned" if profile.settings.augment == ROTATIONS else "mirrored"
        lines.insert(1, f"beside the photos of the bank, their {how} copies are compared with")
    if profile.acceptance is not None:
        lines.append(profile.acceptance.describe())
    if escapes := profile.escapes():
        lines.append(
            f"escapes: {escapes['missed']} of {escapes['defects']} known defects stay unseen "
            f"({percent(escapes['rate'])}; 95 % interval {percent(escapes['low'])} to {percent(escapes['high'])})"
        )
    lines.append(computed_in(profile))
    return "\n".join(filter(None, lines))


def computed_in(profile: "DecidingProfile") -> str:
    """A line for people: the dtype that it was made in, and those that it may or may not be used in."""
    told = [f"made by {maker(profile.made_by)}"]
    if lowered(profile.made_by[WEIGHTS]):
        told.append("it decides with that export alone")
    elif not profile.moved:
        told.append("it decides in that dtype alone")
    for dtype, moved in profile.moved.items():
        may = "may be used" if profile.suits(dtype) else "is refused"
        labels = {0: "no label changes", 1: "1 label changes"}.get(moved.labels, f"{moved.labels} labels change")
        told.append(
            f"it {may} in {dtype}, where scores of {moved.photos} of its photos move by up to {moved.largest:.1g} "
            f"and {labels}"
        )
    return "; ".join(told)


def warning(profile: "DecidingProfile") -> str | None:
    """A line for people where a threshold by known defects calls many good parts anomalous; `None` otherwise."""
    settings, calibration = profile.settings, profile.calibration
    expected, defects = calibration.expected_rate, [photo for photo in profile.features.photos if photo.role == DEFECT]
    if settings.choice == FALSE_ALARMS or expected < ALARMING or expected <= settings.false_alarm_rate:
        return None
    line = f"{WARNING}: at this threshold about {percent(expected)} of good parts are false alarms"
    usual = Calibration.at_rate(calibration.scores.tolist(), settings.false_alarm_rate).threshold
    found, here = (sum(photo.score > each for photo in defects) for each in (usual, calibration.threshold))
    return (
        f"{line}, so that {here} of {len(defects)} known defects are found; without --choose (false alarms up to "
        f"{percent(settings.false_alarm_rate)}) {found} are: the scores hardly tell these defects from good parts"
    )


def describe_parts(profile: "DecidingProfile", usual: UsualPart) -> str:
    """A line for people: how parts are decided, and which good parts were photographed in another way."""
    line = f"decides part by part: a part is anomalous if one of its photos is; {usual.describe()}"
    groups = [[profile.good_photos[number] for number in group] for group in groups_of(profile.good_photos)]
    differing = [(group[0].part, usual.differs([photo.name for photo in group])) for group in groups]
    some = [f"{part} ({how})" for part, how in differing if how is not None]
    return f"{line}; not so: {named(some, len(some))}" if some else line
