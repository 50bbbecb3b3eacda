"""The page: its layout, and what each control does with the session."""

import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from markupsafe import Markup, escape

from ..detector import AnomalyDetector
from ..engine import DetectionResult, Result, UnreadableImage
from ..engine.heatmap import data_url
from ..image_files import image_suffixes
from ..inspection import InspectionProfile
from ..inspection.calibration import percent
from ..inspection.verdict_lines import first_and_other_lines
from ..labels import SCORE
from .session import EXAMPLES, Session, make_example, map_of, overlay_of

TITLE = "AdaptCLIP inspection"
# fonts of the reader's own machine, so that nothing is fetched
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
THEME = gr.themes.Default(primary_hue="blue", **FONTS)
CSS = """
:root { --ink: #1c2430; --bad: #b3261e; --good: #1b6e45; --own: #5b4b9a; --accent: #1f5fbf; }
.dark { --ink: #e8ebf0; --bad: #ff8a80; --good: #6fd3a3; --own: #b9a8ff; --accent: #8ab4f8; }
svg.histogram { width: 100%; height: auto; display: block; }
.histogram text { font-size: 14px; fill: var(--ink); }
.bar-normal { fill: var(--good); } .bar-anomalous { fill: var(--bad); } .bar-scored, .bar-not { fill: var(--accent); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; margin: .5rem 0 0; font-size: .9rem; }
.legend span::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .4em;
  background: currentColor; }
[role=alert] { border-left: .4rem solid var(--bad); padding: .5rem .8rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 280px), 1fr)); gap: 1rem; }
.pictures figure { margin: 0; } .pictures img { width: 100%; height: auto; border-radius: .4rem; }
.pictures figcaption { font-size: .9rem; } .decision { margin: .8rem 0 0 1.2rem; }
.decision li:first-child { font-weight: 600; }
button.primary { background: #1d4ed8 !important; color: #fff !important; }
button:has(button) { display: none; }
.min_value, .max_value, .block span:not(.legend *), .block label, .block button:not(.primary) {
  color: var(--ink) !important; }
@media (max-width: 600px) { .histogram text { font-size: 26px; } .histogram .odd { display: none; } }
"""
PICTURE = {"longest_side": 900, "quality": 88}
MANY_IMAGES = {"file_count": "multiple", "file_types": sorted(image_suffixes()), "height": 170}
COPYING = 600  # seconds after which Gradio has long copied a file
KEPT = (3600, 86400)  # seconds: how often Gradio looks for copies and uploads to delete, and how old they may become
log = logging.getLogger(__name__)
RATES = {"minimum": 1, "maximum": 30, "step": 1, "value": 10}


def make_page(detector: AnomalyDetector) -> gr.Blocks:
    """The page; each visitor has a session.

    Args:
        detector: shared by all visitors; no visit changes it.
    """
    folder = PageFolder()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=KEPT) as page:
        session = gr.State(Session())
        gr.Markdown(
            f"# {TITLE}\nShow it good parts once; it finds what is different on others. Photos stay on the machine "
            "that runs this page."
        )
        notice = gr.HTML()
        with gr.Row():
            with gr.Column(min_width=320):
                gr.Markdown("## 1. Good parts")
                good = gr.File(label="Photos of good parts", **MANY_IMAGES)
                rate = gr.Slider(**RATES, label="False alarms: at most this many of 100 good parts")
                fit = gr.Button("Learn these parts", variant="primary")
                with gr.Row():
                    examples = [gr.Button(f"Example: {name}", size="sm", min_width=90) for name in EXAMPLES]
                about = gr.Markdown("No profile yet: photos are scored without examples, and nothing is decided.")
                with gr.Accordion("Save or load a profile", open=False):
                    save = gr.DownloadButton("Save the profile", interactive=False)
                    load = gr.File(label="Load a profile (.zip)", file_types=[".zip"])
            with gr.Column(min_width=320):
                gr.Markdown("## 2. Inspect")
                photos = gr.File(label="Photos to inspect", **MANY_IMAGES)
                inspect = gr.Button("Inspect", variant="primary")
                histogram = gr.HTML()
                threshold = gr.Slider(
                    0, 1, 0.5, step=0.0001, label="Threshold: scores above it are anomalous", visible=False
                )
        gr.Markdown("## 3. Results, the highest scores first")
        table = gr.Dataframe(
            headers=["photo", "score", "p-value", "label", "regions", "note"],
            datatype=["str", "number", "number", "str", "number", "str"],
            interactive=False,
            label="Results",
            show_label=True,
            wrap=True,
        )
        which = gr.Dropdown([], label="Photo", interactive=True)
        pictures = gr.HTML()

        shown = [session, notice, about, save, histogram, threshold, table, which, pictures]

        def answer(session: Session, work, *arguments) -> list:
            """What the page shows after some work; an error is shown above, and the rest stays."""
            try:
                made = work(*arguments)
                return [made, "", *profile_views(made, folder), *result_views(made)]
            except Exception as error:
                if not isinstance(error, OSError | ValueError):
                    log.exception("The page failed.")
                said = str(error) or type(error).__name__
                return [session, alert(said), *(gr.skip() for _ in shown[2:])]

        def on_fit(files, rate, session):
            return answer(session, session.fit, detector, files, rate / 100)

        def on_load(file, session):
            return answer(session, Session.load, detector, file)

        def on_inspect(files, session):
            return answer(session, session.inspect, detector, files)

        def on_threshold(threshold, session):
            return answer(session, session.with_threshold, threshold)

        fit.click(on_fit, [good, rate, session], shown)
        load.upload(on_load, [load, session], shown)
        inspect.click(on_inspect, [photos, session], shown)
        threshold.release(on_threshold, [threshold, session], shown)
        which.change(picture_views, [which, session], pictures)
        for button, name in zip(examples, EXAMPLES, strict=True):
            button.click(lambda name=name: make_example(name, folder.new()), None, [good, photos])
    return page


def alert(text: str) -> str:
    return str(Markup('<p role="alert">{}</p>').format(text))


class PageFolder:
    """Files that Gradio copies to the folder from which it serves; they are removed soon after, and with the page."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="adaptclip-demo-")

    def new(self) -> Path:
        """An empty folder."""
        for each in Path(self._folder.name).iterdir():
            if each.stat().st_mtime < time.time() - COPYING:
                shutil.rmtree(each, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self._folder.name))


def folded_verdict(profile: InspectionProfile) -> list[str]:
    """Paragraphs: the verdict's first line and its warning, and the others in a part that opens at a click."""
    first, others = first_and_other_lines(profile.verdict_text)
    if not others:
        return first
    items = "".join(f"<li>{escape(line)}</li>" for line in others)
    return [*first, f"<details><summary>Which defects, and what would help</summary><ul>{items}</ul></details>"]


def profile_views(session: Session, folder: PageFolder) -> list:
    """About the profile, its file, the histogram and the threshold's slider."""
    profile = session.profile
    if profile is None:
        return [gr.skip(), gr.skip(), session.histogram(), gr.skip()]
    about = "\n\n".join([*profile.describe().splitlines(), *folded_verdict(profile)])
    for suspect in profile.suspects():
        about += f"\n\n**Look at {Path(suspect.name).name}:** it scores unlike the other good photos"
    if session.left_out:
        about += f"\n\n**Left out, not readable:** {', '.join(session.left_out)}"
    calibration = profile.calibration
    highest = max([*calibration.scores, calibration.threshold, *(each.score or 0 for each in session.results)])
    label = f"Threshold: scores above it are anomalous (false alarms: {percent(calibration.expected_rate)} expected)"
    end = min(1.0, round(1.1 * highest, 2) + 0.01)
    slider = gr.Slider(maximum=end, value=round(calibration.threshold, 4), label=label, visible=True)
    file = gr.DownloadButton(value=str(session.save(folder.new())), interactive=True)
    return [about, file, session.histogram(), slider]


def result_views(session: Session) -> list:
    """The table, the choice of a photo, and the first one's pictures."""
    ranked = session.ranked()
    names = [(Path(each.name).name, number) for number, each in enumerate(ranked)]
    first = 0 if ranked else None
    choice = gr.Dropdown(choices=names, value=first)
    return [[row_of(each) for each in ranked], choice, picture_views(first, session)]


def row_of(result: Result) -> list:
    name = Path(result.name).name
    if isinstance(result, UnreadableImage):
        return [name, None, None, "", None, reason_of(result)]
    note = "one of the good photos: its score says nothing" if result.among_normals else ""
    note = ", ".join(filter(None, (told_reason(result), note)))
    p_value = None if result.p_value is None else round(result.p_value, 4)
    regions = None if result.regions is None else len(result.regions)
    return [name, round(result.score, 4), p_value, result.label or "", regions, note]


def picture_views(number: int | None, session: Session) -> str:
    """The pictures of a result side by side and what was decided, as HTML."""
    ranked = session.ranked()
    if number is None or number >= len(ranked):
        return ""
    result = ranked[number]
    name = Path(result.name).name
    if isinstance(result, UnreadableImage):
        return str(Markup("<p><b>{} could not be read:</b> {}</p>").format(name, reason_of(result)))
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
    if told := told_reason(result):
        decided += f": {told}"
    lines = [decided]
    for number, region in enumerate(result.regions or [], start=1):
        left, top, width, height = region["box"]
        lines.append(f"region {number}: {width} x {height} pixels at ({left}, {top}), peak {region['peak']:.2f}")
    return lines


def told_reason(result: DetectionResult) -> str | None:
    """The reason of a decision, where it says more than the label: not that of a score."""
    return None if result.reason == SCORE else result.reason


def reason_of(result: UnreadableImage) -> str:
    """Why a photo could not be read, without the folder that the page keeps it in."""
    return result.error.replace(str(Path(result.name).parent) + os.sep, "")


def launch(detector: AnomalyDetector, host: str, port: int | None, open_browser: bool):
    """Serves the page until Ctrl-C; at this machine's loopback address unless told otherwise."""
    make_page(detector).launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        share=False,
        allowed_paths=[],
        max_file_size="50mb",
        theme=THEME,
        css=CSS,
        footer_links=[],
        ssr_mode=False,
        pwa=False,
    )
