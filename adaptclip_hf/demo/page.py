"""The page: its layout, and what each control does with the session."""

import logging
import os
from functools import partial
from importlib.resources import files

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from ..detector import AnomalyDetector
from ..engine import View
from ..inspection.fit_settings import FitSettings
from ..reporting import print_line
from .frames import framed
from .page_folder import PageFolder
from .regions import DrawnRegions, regions_frame
from .session import DEFECT_SEEN, EXAMPLES, GOOD_PART, Session, make_example, photos_among
from .views import about_profile, alert, pictures_of, table_of, threshold_slider

TITLE = "AdaptCLIP inspection"
# fonts of the reader's own machine, so that nothing is fetched
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
THEME = gr.themes.Default(primary_hue="blue", **FONTS)
CSS = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
# of any ending: one file that is no photo would mark all others as an error
MANY_FILES = {"file_count": "multiple", "height": 170}
KEPT = (3600, 86400)  # seconds: how often Gradio looks for copies and uploads to delete, and how old they may become
RATE = {"minimum": 1, "maximum": 30, "step": 1, "value": round(100 * FitSettings().false_alarm_rate)}
COLUMNS = {"photo": "str", "score": "number", "p-value": "number", "label": "str", "reviewed": "str", "note": "str"}
COUNTED = gr.Progress(track_tqdm=True)  # shows the bars of long work
log = logging.getLogger(__name__)


def make_page(detector: AnomalyDetector) -> gr.Blocks:
    """The page; each visitor has a session.

    Args:
        detector: shared by all visitors; no visit changes it.
    """
    folder = PageFolder()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=KEPT) as page:
        session, drawn, chosen = gr.State(Session()), gr.State(), gr.State()
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
                rate = gr.Slider(**RATE, label="False alarms: at most this many of 100 good parts")
                fit = gr.Button("Learn these parts", variant="primary")
                with gr.Row():
                    examples = [gr.Button(f"Example: {name}", size="sm", min_width=90) for name in EXAMPLES]
                about = gr.Markdown(about_profile(Session()), min_height=70)
                with gr.Accordion("Save or load a profile", open=False):
                    save = gr.Button("Save the profile")
                    saved = gr.DownloadButton(visible="hidden", elem_id="saved-profile")
                    load = gr.File(label="Load a profile (.zip)", file_types=[".zip"])
            with gr.Column(min_width=320):
                gr.Markdown("## 2. Inspect")
                photos = gr.File(label="Photos to inspect", **MANY_FILES)
                inspect = gr.Button("Inspect", variant="primary")
                histogram = gr.HTML()
                threshold = gr.Slider(0, 1, 0.5, step=0.0001, label="Threshold", visible=False)
        gr.Markdown("## 3. Results, the highest scores first\nChoose a row to see its pictures, and say what it shows.")
        table = gr.Dataframe(
            headers=list(COLUMNS),
            datatype=list(COLUMNS.values()),
            interactive=False,
            label="Results",
            show_label=True,
            wrap=True,
        )
        with gr.Row():
            good_part = gr.Button("It is a good part")
            defect = gr.Button("It is a defect")
            update = gr.Button("Update the profile with these decisions", variant="primary")
        pictures = gr.HTML()

        decided = [histogram, table]
        shown = [session, notice, about, threshold, chosen, pictures, *decided]

        def answer(session: Session, work, *arguments) -> list:
            """What the page shows after some work; an error is shown above, and the rest stays."""
            try:
                made = work(*arguments)
                first = 0 if made.results else None
                views = [about_profile(made), threshold_slider(made), first, pictures_of(made, first)]
                return [made, "", *views, made.histogram(), table_of(made)]
            except Exception as error:
                return [session, told(error), *(gr.skip() for _ in shown[2:])]

        def on_good(files):
            named, passed_over = photos_among(files)
            return regions_frame(named, None), None, alert(passed_over) if passed_over else ""

        def on_drawn(event: gr.EventData):
            try:
                made = None if event.drawn is None else DrawnRegions.of(event.drawn)
                return made, ""
            except Exception as error:
                return gr.skip(), told(error)

        def on_fit(files, rate, drawn, session, progress=COUNTED):
            return answer(session, lambda: session.fit(detector, files, rate / 100, drawn.view() if drawn else View()))

        def on_load(file, session):
            return answer(session, Session.load, detector, file)

        def on_inspect(files, session, progress=COUNTED):
            return answer(session, session.inspect, detector, files)

        def on_update(session, progress=COUNTED):
            return answer(session, session.update, detector)

        def on_threshold(threshold, session):
            try:
                moved = session.with_threshold(threshold)
                return [moved, "", about_profile(moved), moved.histogram(), table_of(moved)]
            except Exception as error:
                return [session, told(error), *(gr.skip() for _ in range(3))]

        def on_choice(session, event: gr.SelectData):
            return event.index[0], pictures_of(session, event.index[0])

        def on_review(verdict, number, session):
            try:
                said = session.decided({session.ranked()[number].name: verdict})
                return said, "", table_of(said)
            except Exception as error:
                return session, told(error), gr.skip()

        def on_save(session):
            try:
                return str(session.save(folder.new())), ""
            except Exception as error:
                return gr.skip(), told(error)

        good.change(on_good, good, [good_photos, drawn, notice])
        good_photos.input(on_drawn, None, [drawn, notice])
        fit.click(on_fit, [good, rate, drawn, session], shown, show_progress_on=about)
        load.upload(on_load, [load, session], shown, show_progress_on=about)
        inspect.click(on_inspect, [photos, session], shown, show_progress_on=table)
        update.click(on_update, session, shown, show_progress_on=table)
        threshold.input(
            on_threshold,
            [threshold, session],
            [session, notice, about, *decided],
            trigger_mode="always_last",
            show_progress="hidden",
        )
        for button, verdict in ((good_part, GOOD_PART), (defect, DEFECT_SEEN)):
            button.click(partial(on_review, verdict), [chosen, session], [session, notice, table])
        table.select(on_choice, session, [chosen, pictures])
        save.click(on_save, session, [saved, notice]).success(None, None, None, js=DOWNLOAD)
        for button, name in zip(examples, EXAMPLES, strict=True):
            button.click(lambda name=name: make_example(name, folder.new()), None, [good, photos])
    return page


# the profile is packed when it is asked for: each copy stays in Gradio's folder for a day
DOWNLOAD = "() => setTimeout(() => document.querySelector('#saved-profile').click(), 200)"


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
