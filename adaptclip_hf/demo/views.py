"""What the page shows of a session."""

from pathlib import Path

import gradio as gr
from markupsafe import Markup, escape

from ..engine import DetectionResult, Result, UnreadableImage
from ..engine.heatmap import data_url
from ..inspection import InspectionProfile
from ..inspection.calibration import percent
from ..inspection.verdict_text import first_and_other_lines
from .session import Session, map_of, overlay_of, without_folder

PICTURE = {"longest_side": 900, "quality": 88}
DIGITS = 4  # of a score


def alert(text: str) -> str:
    return str(Markup('<p role="alert">{}</p>').format(text))


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


def threshold_slider(session: Session) -> gr.Slider:
    """The threshold, if there is a profile; it ends a little above all scores."""
    if session.profile is None:
        return gr.Slider(visible=False)
    calibration = session.profile.calibration
    highest = max([*calibration.scores, calibration.threshold, *(each.score or 0 for each in session.results)])
    label = f"Threshold: scores above it are anomalous (false alarms: {percent(calibration.expected_rate)} expected)"
    end = min(1.0, round(1.1 * highest + 0.01, 2))
    return gr.Slider(maximum=end, value=round(calibration.threshold, DIGITS), label=label, visible=True)


def table_of(session: Session) -> list[list]:
    """A row for each inspected photo, the highest scores first."""
    return [row_of(each, session) for each in session.ranked()]


def row_of(result: Result, session: Session) -> list:
    name = Path(result.name).name
    if isinstance(result, UnreadableImage):
        return [name, None, None, "", "", without_folder(result.name, result.error)]
    note = "one of the profile's own photos: its score says nothing" if result.among_normals else ""
    p_value = None if result.p_value is None else round(result.p_value, DIGITS)
    return [
        name,
        round(result.score, DIGITS),
        p_value,
        result.label or "",
        session.decisions.get(result.name, ""),
        note,
    ]


def pictures_of(session: Session, number: int | None) -> str:
    """The pictures of a result side by side and what was decided, as HTML."""
    ranked = session.ranked()
    if number is None or number >= len(ranked):
        return ""
    result = ranked[number]
    name = Path(result.name).name
    if isinstance(result, UnreadableImage):
        reason = without_folder(result.name, result.error)
        return str(Markup("<p><b>{} could not be read:</b> {}</p>").format(name, reason))
    assert result.image is not None  # of a stream
    shown = (("Photo", result.image), ("Map", map_of(result)), ("Overlay with regions", overlay_of(result)))
    figure = Markup('<figure><img src="{}" alt="{} of {}"><figcaption>{}</figcaption></figure>')
    figures = Markup("").join(figure.format(data_url(image, **PICTURE), what, name, what) for what, image in shown)
    lines = Markup("").join(Markup("<li>{}</li>").format(line) for line in decision_of(result))
    return str(Markup('<div class="pictures">{}</div><ul class="decision">{}</ul>').format(figures, lines))


def decision_of(result: DetectionResult) -> list[str]:
    """What was decided, and where; a line each."""
    decided = f"{result.label or 'not decided'}, score {result.score:.4f}"
    if result.p_value is not None:
        decided += f", p-value {result.p_value:.3f}"
    lines = [decided]
    for number, region in enumerate(result.regions or [], start=1):
        left, top, width, height = region["box"]
        lines.append(f"region {number}: {width} x {height} pixels at ({left}, {top}), peak {region['peak']:.2f}")
    return lines
