"""The verdict on a profile: which pasted defects it would find, how good that is, and what may help."""

import math
from typing import TYPE_CHECKING, Any

from ..model_files import DEFAULT_NAME
from .calibration import Calibration
from .pasted_defects import SIZES, PastedDefects

if TYPE_CHECKING:
    from .deciding import DecidingProfile

BLIND, WEAK, FAIR, GOOD = "blind", "weak", "fair", "good"
LEVELS = (BLIND, WEAK, FAIR, GOOD)
# of the clear defects of 4 and 8 %, which anybody would see on the photo: who misses four of five is nearly blind
NOT_BLIND = 0.2
# of all defects, of which half are faint and half smaller than that
FEWEST_FOUND = {GOOD: 0.6, FAIR: 0.3, WEAK: 0.0}
SMALL, LARGE = SIZES[:2], SIZES[2:]
NOTABLE = 0.05  # of all defects: a difference that is worth a line
FEWEST_TO_COMPARE = 0.1  # of all defects: of fewer, two banks do not show which is better
COARSE = 1.5  # pixels of the photo along one of the model's, from which tiles show more


def verdict_of(profile: "DecidingProfile", pasted: PastedDefects) -> dict[str, Any]:
    """The verdict on a profile as JSON values, at its threshold; after an update, at the one before it.

    Args:
        pasted: the defects that were pasted on its photos.

    Returns:
        `dict`: "level" ("blind", "weak", "fair" or "good"), "pasted" and "found" (how many defects), "false_alarm_rate"
        (on average), "threshold", "advice" (lines for people; none after an update), "defects" (a list by kind, size,
        strength: "pasted", "found", "scores"), "seed", "photos" (how many got defects), "place" (where good ones differ
        most, or `None`), "half_of_the_photos" (what a bank of half of them finds, or `None`), "pixels" (of a photo
        along one of the model's) and "before_update" (whether photos were added or removed since).
    """
    older, calibration = pasted.before_update, profile.calibration
    threshold = older.threshold if older else calibration.threshold
    found, count = pasted.found(threshold)
    return {
        "level": level_of(pasted, threshold),
        "pasted": count,
        "found": found,
        "false_alarm_rate": older.false_alarm_rate if older else calibration.expected_rate,
        "threshold": threshold,
        "advice": [] if older else advice(profile, pasted),
        "defects": [
            {
                "kind": cell.kind,
                "size": cell.size,
                "strength": cell.strength,
                "pasted": len(cell.scores),
                "found": cell.found(threshold),
                "scores": list(cell.scores),
            }
            for cell in pasted.cells
        ],
        **pasted.to_json(),
    }


def share_of(found: tuple[int, int]) -> float:
    return found[0] / max(1, found[1])


def level_of(pasted: PastedDefects, threshold: float) -> str:
    """How much is found, in a word."""
    if share_of(pasted.found(threshold, LARGE, ("clear",))) < NOT_BLIND:
        return BLIND
    share = share_of(pasted.found(threshold))
    return next(level for level, least in FEWEST_FOUND.items() if share >= least)


def advice(profile: "DecidingProfile", pasted: PastedDefects) -> list[str]:
    """What would help, as far as the figures show it; lines for people."""
    calibration, view = profile.calibration, profile.view
    found, count = pasted.found(calibration.threshold)
    lines = []
    without = found_without(profile, pasted)
    if without is not None and without - found >= NOTABLE * count:
        names = ", ".join(suspect.name for suspect in profile.suspects())
        lines.append(
            f"the threshold is as high as {names}: if that shows a defect or no good part, take it out "
            f"(--update PROFILE --drop NAME), and it would find about {without} of {count}"
        )
    elif (half := pasted.half) is not None and FEWEST_TO_COMPARE * half.pasted <= half.found_by_all < half.pasted:
        helps = "should help" if half.found_by_all - half.found >= NOTABLE * half.pasted else "alone will hardly help"
        figures = f"half of those in the bank find {half.found} of {half.pasted}, all of them {half.found_by_all}"
        lines.append(f"more photos of good parts {helps}: {figures}")
    rate = 2 * profile.settings.false_alarm_rate
    if rate < 1:
        at_twice = pasted.found(Calibration.at_rate(calibration.scores.tolist(), rate).threshold)[0]
        if at_twice - found >= NOTABLE * count:
            asked = f"--false-alarm-rate {100 * rate:.3g}%"
            lines.append(f"at twice the false alarms ({asked}) it would find {at_twice} of {count}")
    small, large = (share_of(pasted.found(calibration.threshold, sizes, ("clear",))) for sizes in (SMALL, LARGE))
    if not isinstance(view.tile, int) and pasted.pixels >= COARSE and small < large / 2:
        lines.append(
            f"tiles would show small defects larger (--tile): here one pixel that the model sees covers "
            f"{pasted.pixels:.1f} of the photos' along each side"
        )
    if level_of(pasted, calibration.threshold) in (BLIND, WEAK):
        larger = " than adaptclip-tiny" if profile.model == DEFAULT_NAME else ""
        lines.append(f"a larger model{larger} may see what this one does not (--model); that was not tried here")
    return lines


def found_without(profile: "DecidingProfile", pasted: PastedDefects) -> int | None:
    """How many defects are found at the threshold of the photos that do not stand out; `None` where none stands out."""
    scores = profile.calibration.scores
    lowest = min((suspect.score for suspect in profile.suspects()), default=math.inf)
    usual = scores[scores < lowest]
    if len(usual) == len(scores):
        return None
    try:
        return pasted.found(Calibration.at_rate(usual.tolist(), profile.settings.false_alarm_rate).threshold)[0]
    except ValueError:  # too few photos are left for the rate
        return None
