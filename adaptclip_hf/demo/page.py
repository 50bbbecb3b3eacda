"""The page: its layout, and what each control does with the session."""

import logging
import os
from dataclasses import replace
from importlib.resources import files

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from ..detector import AnomalyDetector
from ..engine import View
from ..inspection.calibration import percent
from ..inspection.fit_settings import FitSettings
from ..inspection.history import Review
from ..reporting import print_line
from .desk import Decisions, Threshold, desk_frame
from .frames import framed, listen
from .page_folder import PageFolder
from .regions import DrawnRegions, regions_frame
from .session import EXAMPLES, Session, make_example, photos_among
from .views import about_profile, alert, status

TITLE = "AdaptCLIP inspection"
# fonts of the reader's own machine, so that nothing is fetched
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
THEME = gr.themes.Default(primary_hue="blue", **FONTS)
CSS = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
# of any ending: one file that is no photo would mark all others as an error
MANY_FILES = {"file_count": "multiple", "height": 170}
KEPT = (3600, 86400)  # seconds: how often Gradio looks for copies and uploads to delete, and how old they may become
RATE = {"minimum": 1, "maximum": 30, "step": 1, "value": round(100 * FitSettings().false_alarm_rate)}
# the profile is packed when it is asked for: each copy stays in Gradio's folder for a day
DOWNLOAD = "() => setTimeout(() => document.querySelector('#saved-profile').click(), 200)"
COUNTED = gr.Progress(track_tqdm=True)  # shows the bars of long work
UPDATE, KEEP = "Update the profile with these decisions", "Keep the threshold that is tried"
log = logging.getLogger(__name__)


def make_page(detector: AnomalyDetector) -> gr.Blocks:
    """The page; each visitor has a session.

    Args:
        detector: shared by all visitors; no visit changes it.
    """
    folder = PageFolder()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=KEPT) as page:
        session, drawn, said, trial = gr.State(Session()), gr.State(), gr.State([]), gr.State()
        gr.Markdown(
            f"# {TITLE}\nShow it good parts once; it finds what is different on others. Photos stay on the machine "
            "that runs this page."
        )
        notice = gr.HTML()
        with gr.Row():
            with gr.Column(min_width=320):
                gr.Markdown("## 1. Good parts")
                good = gr.File(label="Photos of good parts", **MANY_FILES)
                good_photos = framed()
                rate = gr.Slider(**RATE, label="False alarms: this many of 100 good parts, on average")
                fit = gr.Button("Learn these parts", variant="primary")
                with gr.Row():
                    examples = [gr.Button(f"Example: {name}", size="sm", min_width=90) for name in EXAMPLES]
            with gr.Column(min_width=320):
                gr.Markdown("## 2. Inspect")
                photos = gr.File(label="Photos to inspect", **MANY_FILES)
                inspect = gr.Button("Inspect", variant="primary")
                gr.Markdown("### The profile")
                about = gr.Markdown(about_profile(Session()), min_height=70)
                with gr.Accordion("Save or load a profile", open=False):
                    save = gr.Button("Save the profile")
                    saved = gr.DownloadButton(visible="hidden", elem_id="saved-profile")
                    load = gr.File(label="Load a profile (.zip)", file_types=[".zip"])
        gr.Markdown("## 3. Results, the highest scores first")
        with gr.Row():
            update = gr.Button(UPDATE, variant="primary", interactive=False)
            keep = gr.Button(KEEP, interactive=False)
        desk = framed(min_height=90)

        shown = [session, notice, about, desk, said, trial, update, keep]

        def views(session: Session, decisions) -> list:
            """What the page shows of a session, in the order of `shown`, without the notice."""
            view = [about_profile(session), desk_frame(session, decisions), decisions, None]
            return [*view, update_button(session, decisions), gr.Button(KEEP, interactive=False)]

        def answer(session: Session, work, *arguments, decisions=(), done="") -> list:
            """What the page shows after some work; an error is shown above, and the rest stays."""
            try:
                made = work(*arguments)
                return [made, status(done), *views(made, list(decisions))]
            except Exception as error:
                return [session, told(error), *(gr.skip() for _ in shown[2:])]

        def on_good(files):
            named, passed_over = photos_among(files)
            return regions_frame(named, None), None, alert(passed_over) if passed_over else ""

        def on_drawn(message):
            return [None if message["drawn"] is None else DrawnRegions.of(message["drawn"])]

        def on_fit(files, rate, drawn, session, progress=COUNTED):
            def work():
                chosen = (drawn.view(), drawn.acceptance()) if drawn else (View(), None)
                return session.fit(detector, files, rate / 100, *chosen)

            return answer(session, work)

        def on_load(file, session):
            return answer(session, Session.load, detector, file)

        def on_inspect(files, session, progress=COUNTED):
            return answer(session, session.inspect, detector, files, done=photos_among(files)[1])

        def on_decisions(message, session):
            made = Decisions.of(message).decisions
            return [made, update_button(session, made)]

        def on_update(said, session, progress=COUNTED):
            verdicts = {decision.path: decision.verdict for decision in said}
            reviews = {decision.path: Review(decision.reviewer, decision.time) for decision in said}
            done = f"The profile has {counted(len(verdicts), 'photo')} more, and all photos are decided again by it."
            return answer(session, session.update, detector, verdicts, reviews, done=done)

        def on_threshold(message, session):
            tried = Threshold.of(message).threshold
            return [tried, keep_button(session, tried)]

        def on_keep(tried, said, session):
            return answer(session, session.with_threshold, tried, decisions=said)

        def on_save(session):
            try:
                return str(session.save(folder.new())), ""
            except Exception as error:
                return gr.skip(), told(error)

        good.change(on_good, good, [good_photos, drawn, notice])
        listen(good_photos.input, on_drawn, [], [drawn])
        fit.click(on_fit, [good, rate, drawn, session], shown, show_progress_on=about)
        load.upload(on_load, [load, session], shown, show_progress_on=about)
        inspect.click(on_inspect, [photos, session], shown, show_progress_on=desk)
        listen(desk.input, on_decisions, [session], [said, update])
        listen(desk.release, on_threshold, [session], [trial, keep])
        update.click(on_update, [said, session], shown, show_progress_on=desk)
        keep.click(on_keep, [trial, said, session], shown, show_progress_on=desk)
        save.click(on_save, session, [saved, notice]).success(None, None, None, js=DOWNLOAD)
        for button, name in zip(examples, EXAMPLES, strict=True):
            button.click(lambda name=name: make_example(name, folder.new()), None, [good, photos])
    return page


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def update_button(session: Session, decisions: list) -> gr.Button:
    """The button that takes decisions into the profile, with their number."""
    label = f"{UPDATE} ({len(decisions)})" if decisions else UPDATE
    return gr.Button(label, interactive=bool(decisions) and session.profile is not None)


def keep_button(session: Session, tried: float | None) -> gr.Button:
    """The button that keeps a threshold that is tried, with the false alarms to expect."""
    if tried is None or session.profile is None:
        return gr.Button(KEEP, interactive=False)
    rate = replace(session.profile.calibration, threshold=tried).expected_rate
    return gr.Button(f"Keep the threshold {tried:.4f} (false alarms: {percent(rate)})", interactive=True)


def told(error: Exception) -> str:
    """An error as a notice; one that is nobody's mistake goes to the log with its trace."""
    if not isinstance(error, OSError | ValueError):
        log.error("The page failed.", exc_info=error)
    return alert(str(error) or type(error).__name__)


def launch(detector: AnomalyDetector, host: str, port: int | None, open_browser: bool):
    """Serves the page until Ctrl-C; at this machine's loopback address unless told otherwise."""
    page = make_page(detector)
    page.launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        allowed_paths=[],
        max_file_size="50mb",
        theme=THEME,
        css=CSS,
        footer_links=[],
        ssr_mode=False,
        pwa=False,
    )
    print_line(f"The page is at {page.local_url} (Ctrl-C ends it)")
    page.block_thread()
