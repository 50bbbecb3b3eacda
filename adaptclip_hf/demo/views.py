"""What the page shows of a session."""

from pathlib import Path

from markupsafe import Markup, escape

from ..inspection import InspectionProfile
from ..inspection.calibration import percent
from ..inspection.verdict_lines import first_and_other_lines
from .session import Session


def alert(text: str) -> str:
    return str(Markup('<p role="alert">{}</p>').format(text))


def status(text: str) -> str:
    """What was done, for who sees it and who hears it; nothing for no text."""
    return str(Markup('<p role="status">{}</p>').format(text)) if text else ""


def about_profile(session: Session) -> str:
    """What the profile is and promises, which photos to look at and which were left out; in Markdown."""
    profile = session.profile
    if profile is None:
        return "No profile yet: photos are scored without examples, and nothing is decided."
    lines = [*profile.describe().splitlines(), *looked_at(profile), *folded_verdict(profile)]
    lines += [
        f"**Look at {Path(each.name).name}:** it scores unlike the other good photos" for each in profile.suspects()
    ]
    if session.left_out:
        lines.append(f"**Left out:** {'; '.join(map(escape, session.left_out))}")
    return "\n\n".join(lines)


def looked_at(profile: InspectionProfile) -> list[str]:
    """Which part of the photos the profile looks at; nothing if it is all of them."""
    view, lines = profile.view, []
    if view.region is not None:
        left, top, width, height = view.region
        lines.append(f"looks only at {width} x {height} pixels at ({left}, {top})")
    if view.ignore is not None:
        lines.append(f"leaves out {percent(view.ignore.mean())} of the photo")
    return lines


def folded_verdict(profile: InspectionProfile) -> list[str]:
    """Paragraphs: the verdict's first line and its warning, and the others in a part that opens at a click."""
    first, others = first_and_other_lines(profile.verdict_text)
    if not others:
        return first
    items = "".join(f"<li>{escape(line)}</li>" for line in others)
    return [*first, f"<details><summary>Which defects, and what would help</summary><ul>{items}</ul></details>"]
