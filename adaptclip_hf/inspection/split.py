"""Which good photos make the bank, which calibrate, and what that promises."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .calibration import (
    PHOTOS,
    cannot_carry,
    counted,
    lowest_rate,
    percent,
    photos_needed,
    photos_that_use,
    used_rate,
)
from .parts import groups_of
from .photos import BANK, BOTH, CALIBRATION, CONFIRMED, DEFECT, IN_BANK, ProfilePhoto

AUTO, SPLIT, CROSS, LEAVE_ONE_OUT = "auto", "split", "cross", "leave-one-out"
METHODS = (AUTO, SPLIT, CROSS, LEAVE_ONE_OUT)
FOLDS = 5  # of "cross"
PLENTY_IN_BANK = 50  # photos; where a split leaves fewer for the bank, "auto" wastes none
FEWEST_COMPARED = 2  # photos of a bank: each of them is looked at beside the others
NEARLY = 0.9  # of an asked rate: what gives less is explained
FEWEST_IN_BANK = 10  # photos that a split should leave, as it is recommended to people
HOW = {
    SPLIT: "none of them in the bank",
    CROSS: "each against the bank without its fold",
    LEAVE_ONE_OUT: "each against the others",
}
PROMISES = {
    SPLIT: "exact: it holds on average over draws of photos, for every product whose parts come as these came",
    CROSS: "not exact: new parts are compared with more photos, which errs to the safe side (docs/inspection.md)",
    LEAVE_ONE_OUT: "measured, not exact: six products kept it (docs/inspection.md, What was measured)",
}


@dataclass(frozen=True)
class Split:
    """How many good photos make the bank, and how many calibrate a false-alarm rate.

    Where several photos show one part, all of them do the same, and parts are counted.

    Attributes:
        method: "split" (photos of the bank never calibrate; exact), "leave-one-out" (every photo is in the bank and
            calibrates, compared with all others) or "cross" (the same, compared with those of the other folds).
        bank: how many make the bank.
        calibrating: how many calibrate.
    """

    method: str
    bank: int
    calibrating: int

    @classmethod
    def of(
        cls, count: int, false_alarm_rate: float, method: str = AUTO, confirmed: int = 0, what: str = PHOTOS
    ) -> "Split":
        """The split of so many good photos.

        Args:
            confirmed: photos that are in the bank anyway.
            what: is counted, for messages: "photos" or "parts".

        Raises:
            ValueError: there are too few photos for the rate; says how many it needs.
        """
        if not 0 < false_alarm_rate < 1:
            raise ValueError(f"Expected a false-alarm rate between 0 and 1, got {false_alarm_rate}.")
        if method not in METHODS:
            raise ValueError(f"There is no calibration {method!r}; there are {', '.join(METHODS)}.")
        needed = photos_needed(false_alarm_rate)
        half = max(needed, count // 2)
        if method == SPLIT or (method == AUTO and needed <= count and count - half + confirmed >= PLENTY_IN_BANK):
            if count < needed or count - needed + confirmed < FEWEST_COMPARED:
                raise ValueError(
                    f"{counted(count, f'good {what}')} cannot carry a false-alarm rate of {percent(false_alarm_rate)} "
                    f"when split: {needed} must calibrate, and at least two must be left for the bank. "
                    f"{needed + FEWEST_IN_BANK} {what} are enough."
                )
            # about half of them, of which no step of the rate is wasted: of 30 photos at 10 % 19 and not 15
            left = min(count, count + confirmed - (PLENTY_IN_BANK if method == AUTO else FEWEST_IN_BANK))
            fitting = [each for each in photos_that_use(false_alarm_rate, half) if each <= left]
            calibrating = min(fitting, key=lambda each: abs(each - half), default=needed)
            return cls(SPLIT, count - calibrating, calibrating)
        if count < max(needed, 2):
            raise ValueError(
                f"{cannot_carry(count, false_alarm_rate, what)}. Take more photos of good parts, or ask for a higher "
                "rate."
            )
        return cls(LEAVE_ONE_OUT if method == AUTO else method, count, count)

    def assign(self, photos: Sequence[ProfilePhoto], seed: int) -> list[ProfilePhoto]:
        """The photos with their roles; which ones make the bank is drawn at random, by the seed."""
        parts = good_parts(photos)
        roles: dict[int, str] = {}
        for place, number in enumerate(np.random.default_rng(seed).permutation(len(parts))):
            role = BOTH if self.method != SPLIT else BANK if place < self.bank else CALIBRATION
            roles |= dict.fromkeys(parts[number], role)
        for part in confirmed_parts(photos):
            roles |= dict.fromkeys(part, CONFIRMED)
        return [replace(photo, role=roles.get(index, photo.role)) for index, photo in enumerate(photos)]

    def folds(self, photos: Sequence[ProfilePhoto], seed: int) -> list[list[int]]:
        """Numbers of all photos in groups, each of which is to be scored against the bank without it.

        Args:
            photos: with their roles, of [`~Split.assign`].
            seed: of the draw of folds, where there are some.
        """
        parts = groups_of(photos)
        alone = [part for part in parts if any(photos[index].role in IN_BANK for index in part)]
        if self.method == CROSS:
            both = [part for part in alone if photos[part[0]].role == BOTH]
            drawn = [both[number] for number in np.random.default_rng(seed).permutation(len(both))]
            count = min(FOLDS, len(drawn))
            alone = [part for part in alone if photos[part[0]].role != BOTH]
            alone += [sorted(index for part in drawn[first::count] for index in part) for first in range(count)]
        left = {index for part in alone for index in part}
        outside = [index for index in range(len(photos)) if index not in left]
        return [*alone, outside] if outside else alone


def good_parts(photos: Sequence[ProfilePhoto]) -> list[list[int]]:
    """Numbers of the photos of each good part, as parts came: of none that a false alarm was confirmed of."""
    return [part for part in groups_of(photos) if not any(photos[n].role in (CONFIRMED, DEFECT) for n in part)]


def confirmed_parts(photos: Sequence[ProfilePhoto]) -> list[list[int]]:
    """Numbers of the photos of each part that was picked because one of its photos was a false alarm."""
    return [part for part in groups_of(photos) if any(photos[number].role == CONFIRMED for number in part)]


def rates(count: int, what: str = PHOTOS) -> str:
    """Which false-alarm rates this number of calibrating photos (or parts) allows: a sentence for people."""
    common = [rate for rate in (0.1, 0.05, 0.02, 0.01, 0.001) if photos_needed(rate) > count]
    more = f"; {percent(common[0])} would take {photos_needed(common[0])} of them" if common else ""
    lowest = percent(lowest_rate(count))
    return f"with {counted(count, f'calibrating {what}')} the lowest false-alarm rate to ask for is {lowest}{more}"


def asked_and_given(count: int, asked: float, given: float, what: str = PHOTOS) -> str | None:
    """Why a threshold gives fewer false alarms than were asked for: a sentence for people; `None` where it does not."""
    if given > asked * NEARLY:
        return None
    line = f"asked for {percent(asked)}, and {counted(count, f'calibrating {what}')} give {percent(given)}"
    if given < used_rate(count, asked):
        return f"{line}: several of them score as high as the threshold"
    step, more = percent(lowest_rate(count)), photos_that_use(asked, count)[1]
    return f"{line}: with {count} of them rates go in steps of {step}; {more} would give {percent(asked)}"
