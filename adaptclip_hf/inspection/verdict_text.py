"""A verdict in plain words."""

from typing import Any

from .calibration import percent
from .verdict import BLIND
from .verdict_lines import WARNING

WORDS = {
    "blind": "nearly blind",
    "weak": "weak",
    "fair": "fair",
    "good": "good",
}
PLURALS = {
    "scratch": "scratches",
    "hole": "holes",
    "stain": "stains",
    "foreign body": "foreign bodies",
    "misplaced piece": "misplaced pieces",
}
SEEN_IN = 0.5  # of the photos: a place where fewer have their peak is no place of all


def verdict_text(verdict: dict[str, Any], warning: str | None = None) -> str:
    """A few lines for people.

    Args:
        warning: a line about false alarms, which stands right below what would be found.
    """
    lines = [
        f"verdict: {WORDS[verdict['level']]}; of {verdict['pasted']} defects pasted on good photos it would find "
        f"{verdict['found']}, with about {percent(verdict['false_alarm_rate'])} false alarms on average"
    ]
    if warning is not None:
        lines.append(warning)
    if verdict["level"] == BLIND:
        lines.append(
            f"{WARNING}: it is nearly blind for this product: even clear defects of 4 and 8 % of the photo's side "
            "mostly pass as good"
        )
    if verdict["before_update"]:
        lines.append(
            "photos were added or removed since: this is the verdict from before, and `adaptclip fit --update PROFILE "
            "--verdict` renews it"
        )
    kinds = dict.fromkeys(each["kind"] for each in verdict["defects"])
    lines += [kind_line(verdict["defects"], kind) for kind in kinds]
    if verdict["place"]:
        lines.append(place_line(verdict["place"]))
    lines += verdict["advice"]
    lines.append("these defects were pasted: they show what sort of thing it sees, and promise nothing for real ones")
    return "\n".join(lines)


def kind_line(defects: list[dict], kind: str) -> str:
    """Of one kind: found of pasted, by size, and by strength."""
    own = [each for each in defects if each["kind"] == kind]
    sizes = [
        f"{percent(size)} long {ratio([each for each in own if each['size'] == size])}"
        for size in sorted({each["size"] for each in own})
    ]
    strengths = [f"{name} {ratio([each for each in own if each['strength'] == name])}" for name in ("clear", "faint")]
    return f"pasted {PLURALS[kind]}: {', '.join(sizes)}; {', '.join(strengths)}"


def ratio(some: list[dict]) -> str:
    return f"{sum(each['found'] for each in some)} of {sum(each['pasted'] for each in some)}"


def place_line(place: dict) -> str:
    left, top, width, height = place["box"]
    where = f"{left:.0f} to {left + width:.0f} % from the left and {top:.0f} to {top + height:.0f} % from the top"
    line = (
        f"good parts differ most {where} ({place['ratio']:.1f} times the usual; there is the highest value in "
        f"{place['peaks']} of {place['photos']} photos)"
    )
    if place["peaks"] >= SEEN_IN * place["photos"]:
        line += ": a defect elsewhere must stand out from that; if the place does not matter, hide it with --ignore"
    return line
