"""The page of a run's results, also in a real browser where there is one."""

import json
import re
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from small_profiles import fit_small_profile, inspects_all

from adaptclip_hf.cli import main
from adaptclip_hf.report import write_report
from adaptclip_hf.report.gallery import Card, Gallery, gallery_page
from adaptclip_hf.report.histogram_drawing import HistogramDrawing
from adaptclip_hf.synthetic import make_category, render_sample

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def results(small_folder, tmp_path_factory) -> Path:
    """Results of twenty photos, some anomalous, one broken, one with a name that is HTML."""
    folder, category = tmp_path_factory.mktemp("report"), make_category(5, "metal ring")
    for name in ("good", "line"):
        (folder / name).mkdir()
    for index in range(12):
        Image.fromarray(render_sample(category, index, 60, defect=False)[0]).save(folder / "good" / f"{index}.png")
    rng = np.random.default_rng(0)
    for index in range(20):
        if index % 4:
            image = Image.fromarray(render_sample(category, 50 + index, 60, defect=False)[0])
        else:
            image = Image.fromarray(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8))
        image.save(folder / "line" / f"part_{index:02}.png")
    shutil.copy(folder / "line" / "part_00.png", folder / "line" / "<b onclick=alert(1)>&.png")
    (folder / "line" / "broken.png").write_bytes(b"no image")
    fit_small_profile(folder / "good", small_folder, 0.1, folder / "profile")
    inspects_all(folder / "profile")
    detect = ["detect", str(folder / "line"), "--profile", str(folder / "profile"), "--quiet"]
    assert main([*detect, "--output", str(folder / "out")]) == 1
    return folder / "out"


class Page(HTMLParser):
    """Tags that stand open at the end, everything that is fetched, and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.tags, self.text = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.fetched += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "input", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.text += data


def test_the_page_is_whole_and_fetches_nothing(results, capsys):
    assert main(["report", str(results), "--title", "Ring & <Co>"]) == 0
    assert "report.html" in capsys.readouterr().out
    page = Page()
    content = (results / "report.html").read_text()
    page.feed(content)
    lines = [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]
    assert page.fetched and all(each.startswith("data:image/jpeg;base64,") for each in page.fetched)
    assert not page.open and "<b onclick" not in content and "Ring & <Co>" in page.text
    cards = [attributes for tag, attributes in page.tags if tag == "li" and attributes.get("class") == "card"]
    scored = sorted((line for line in lines if line["error"] is None), key=lambda line: -line["score"])
    assert [card["data-name"] for card in cards] == [line["path"].lower() for line in scored]
    assert "broken.png" in page.text and "false alarms: about" in page.text
    polygons = [attributes for tag, attributes in page.tags if tag == "polygon"]
    assert len(polygons) == sum(len(line["regions"]) for line in scored) > 0


def test_a_verdict_is_told_and_its_table_opens_at_a_click(results, tmp_path):
    folder = shutil.copytree(results, tmp_path / "results")
    settings = json.loads((folder / "detect.json").read_text())
    settings["profile"]["verdict"] = "verdict: nearly blind\nWARNING: <look>\npasted stains: none\nadvice"
    (folder / "detect.json").write_text(json.dumps(settings))
    assert main(["report", str(folder)]) == 0
    content = (folder / "report.html").read_text()
    shown, folded = content.split("<details>")[:2]
    assert "nearly blind" in shown and "WARNING: &lt;look&gt;" in shown and "pasted stains" not in shown
    assert "<li>pasted stains: none</li><li>advice</li>" in folded


def test_without_a_profile_and_without_the_photos(small_folder, photos, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(photos["bad"][0], folder / "a.png")
    call = ["detect", str(folder), "--model", str(small_folder), "--quiet", "--no-heatmaps"]
    assert main([*call, "--output", str(tmp_path / "out")]) == 0
    shutil.rmtree(folder)
    assert main(["report", str(tmp_path / "out")]) == 0
    content = (tmp_path / "out" / "report.html").read_text()
    assert "not judged" in content and "data:image" not in content


def test_only_the_highest_are_shown(results):
    content = write_report(results, images=3).read_text()
    cards = re.findall(r'<li class="card"[^>]*>', content)
    assert sum("hidden" not in card for card in cards) == 3 < len(cards) and "3 of 21 are shown" in content


def test_folders_that_hold_no_results(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1 and "No results" in capsys.readouterr().err
    (tmp_path / "results.jsonl").write_text('{"path": "a"}\n')
    assert main(["report", str(tmp_path)]) == 1 and "line 1" in capsys.readouterr().err


def test_the_histogram_counts_every_score():
    drawn = HistogramDrawing.of({"normal": [0.1, 0.1, 0.2], "anomalous": [0.9]}, [0.1, 0.15], 0.3)
    heights = {name: sum(bar[4] for bar in drawn.bars if bar[0] == name) for name in drawn.counts}
    assert heights["normal"] == pytest.approx(3 * heights["anomalous"])
    assert drawn.threshold == pytest.approx(720 * 0.3 / 0.945) and drawn.good == 2
    assert HistogramDrawing.of({"scored": [0.0, 0.0]}, None, None).bars


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def require_accessible(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = [each for each in axe.Axe().run(page).response["violations"] if each["impact"] in ("serious", "critical")]
    assert not found, [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_in_a_browser(results, browser, width, height):
    """Looking: filters, switches, print; nothing is fetched, nothing is too wide."""
    main(["report", str(results)])
    page = browser.new_page(viewport={"width": width, "height": height})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: complaints.append("dialog"))
    page.goto((results / "report.html").as_uri())
    cards = page.locator(".card:visible")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert cards.count() == 21
    tick = page.locator("svg.histogram text", has_text="0.00").first.bounding_box()
    assert tick["x"] >= page.locator("svg.histogram").bounding_box()["x"]  # not cut
    anomalous = page.locator('.card[data-label="anomalous"]').count()
    page.get_by_role("button", name="anomalous", exact=True).focus()
    page.keyboard.press("Enter")
    assert cards.count() == anomalous > 0
    for summary in page.locator(".card:visible summary").all():
        summary.click()
    assert all(
        cell.bounding_box()["height"] < 30 for cell in page.locator(".card:visible td").all()
    )  # no broken digits
    page.get_by_role("button", name="all", exact=True).click()
    page.get_by_role("searchbox").fill("part_07")
    assert cards.count() == 1 and page.locator("#count").inner_text() == "1 of 21"
    page.get_by_role("searchbox").fill("")
    photo, overlay = (page.locator(f".views.both .{kind} img").first for kind in ("photo", "overlay"))
    assert overlay.is_visible() and photo.bounding_box() == overlay.bounding_box()
    page.get_by_label("side by side").check()
    assert photo.bounding_box()["x"] + photo.bounding_box()["width"] <= overlay.bounding_box()["x"]
    page.get_by_label("heatmap", exact=True).uncheck()
    assert not overlay.is_visible() and page.locator(".views.both polygon").first.is_visible()
    require_accessible(page)
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible() and cards.count() == 21
    assert not complaints
    assert all(re.match(r"(file|data):", url) for url in requests)
    page.close()


@pytest.mark.slow
def test_a_review_by_keyboard_alone(results, browser):
    """Three photos, undo, a random sample of normal ones, what is exported, and what a reload keeps."""
    write_report(results, images=8, sample=5)
    rows = [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]
    rows = sorted((row for row in rows if row["error"] is None), key=lambda row: -row["score"])
    anomalous = sum(row["label"] == "anomalous" for row in rows)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((results / "report.html").as_uri())
    assert "unknown" in page.locator("#figures").inner_text()
    page.get_by_role("button", name="review from the highest").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    require_accessible(page)
    for key in "dgdu":
        page.keyboard.press(key)
    assert rows[2]["path"].split("/")[-1] in dialog.inner_text()  # undone, and shown again
    page.keyboard.press("d")
    page.keyboard.press("ArrowLeft")
    assert "reviewed: defect" in dialog.inner_text()
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.className.startsWith('views')")  # a dialog tells of its end later
    assert not dialog.is_visible()
    cell = page.locator('[data-cell="defect/anomalous"]')
    assert cell.inner_text() == "2"
    assert f"among the 3 highest of {anomalous} anomalous photos: 1 of 3 (33 %, 95 % interval 0.8 % to 91 %)" in (
        page.locator("#figures").inner_text()
    )
    page.locator("#many").fill("4")
    page.locator("#draw").focus()
    page.keyboard.press("Enter")
    assert page.locator(".card:visible").count() == 4
    for _ in range(3):
        page.keyboard.press("g")
    assert "3 of 4 normal photos drawn at random are reviewed; the interval" in page.locator("#figures").inner_text()
    page.keyboard.press("g")
    assert "by 4 drawn at random: 0 of 4 (0 %, 95 % interval 0 % to 60 %)" in page.locator("#figures").inner_text()
    page.keyboard.press("Escape")
    page.get_by_label("reviewer").fill("Ada")
    page.get_by_label("reviewer").press("Tab")
    page.reload()
    assert cell.inner_text() == "2" and page.get_by_label("reviewer").input_value() == "Ada"
    with page.expect_download() as download:
        page.get_by_role("button", name="save decisions.json").press("Enter")
    content = json.loads(download.value.path().read_text())
    profile = json.loads((results / "detect.json").read_text())["profile"]["digest"]
    assert (content["format"], content["version"], content["profile"]) == ("adaptclip-decisions", 1, profile)
    made = [(each["path"], each["verdict"], each["chosen"]) for each in content["decisions"]]
    verdicts = ("defect", "good part", "defect")
    assert made[:3] == [(rows[number]["path"], verdicts[number], "worst-first") for number in range(3)]
    normal = {row["path"] for row in rows if row["label"] == "normal"}
    assert len(made) == 7 and {(path in normal, *rest) for path, *rest in made[3:]} == {
        (True, "good part", "random-normal")
    }
    assert all(set(each) == {"path", "verdict", "reviewer", "time", "chosen"} for each in content["decisions"])
    assert {each["reviewer"] for each in content["decisions"]} == {"Ada"}  # typed after the review
    page.evaluate("localStorage.clear()")
    page.close()


@pytest.mark.slow
def test_another_threshold_is_tried_in_a_frame_of_another_page(results, browser, tmp_path):
    """Mouse, keyboard and typed numbers move it; the page around hears of it, and of decisions."""
    content = write_report(results).read_text()
    rows = [json.loads(line) for line in (results / "results.jsonl").read_text().splitlines()]
    scores = [row["score"] for row in rows if row["error"] is None]
    calibration = json.loads((results / "detect.json").read_text())["profile"]["scores"]
    around = "<script>heard = []; onmessage = (event) => heard.push(event.data)</script>"
    frame = f'<iframe sandbox="allow-scripts" style="width: 1200px; height: 800px" srcdoc="{escape(content)}"></iframe>'
    (tmp_path / "around.html").write_text(f"<!doctype html><meta charset=utf-8>{around}{frame}")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "around.html").as_uri())
    desk = page.frame_locator("iframe")
    typed, slider, told = desk.locator("#typed"), desk.locator("#slider"), desk.locator("#trial")
    own = told.inner_text()
    tried = (sorted(scores)[3] + sorted(scores)[4]) / 2
    typed.fill(repr(tried))
    higher = sum(score > tried for score in calibration)
    assert f"{len(scores) - 4} anomalous, 4 normal" in told.inner_text()
    assert f"{higher} lie above" in told.inner_text() and desk.locator('.card[data-label="normal"]').count() == 4
    assert f"--false-alarm-rate {100 * (higher + 1) / 13:.2f}%" in desk.locator("#permanent").inner_text()
    assert f"threshold {tried:.3f}" in desk.locator("svg.histogram").text_content()
    slider.focus()
    slider.press("ArrowRight")
    assert float(typed.input_value()) > tried
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2)
    assert f"0 anomalous, {len(scores)} normal" in told.inner_text()
    desk.get_by_role("button", name="back to the run's own").press("Enter")
    assert told.inner_text() == own and not desk.locator("#permanent").is_visible()
    desk.locator('.card [data-verdict="defect"]').first.click()
    heard = page.evaluate("heard")
    thresholds = [each["threshold"] for each in heard if each["type"] == "adaptclip-threshold"]
    assert thresholds[0] is None and thresholds[1] == tried and thresholds[-1] is None
    decisions = [each["decisions"] for each in heard if each["type"] == "adaptclip-decisions"]
    assert decisions[0] == [] and decisions[-1][0]["verdict"] == "defect"
    assert "keeps nothing" in desk.locator("#kept").inner_text() and not complaints
    for count, total in ((0, 1), (0, 60), (3, 60), (59, 60), (60, 60), (17, 4000)):
        exact = stats.binomtest(count, total).proportion_ci(0.95)
        low, high = page.frames[1].evaluate(f"interval({count}, {total})")
        assert low == pytest.approx(exact.low, abs=1e-9) and high == pytest.approx(exact.high, abs=1e-9)
    page.close()


@pytest.mark.slow
def test_a_page_that_is_made_anew_goes_on_with_the_decisions(browser, tmp_path):
    row = {"p_value": None, "regions": None, "size": [4, 6], "among_normals": False}
    rows = [row | {"path": f"{score}.png", "score": score, "label": "normal"} for score in (0.3, 0.2, 0.1)]
    cards = [Card.of(each, 0.5, rank=place, drawn=2 - place % 2) for place, each in enumerate(rows)]
    made = [("0.2.png", "good part", "random-normal"), ("gone.png", "defect", "worst-first")]
    decisions = [
        {"path": path, "verdict": verdict, "reviewer": "Ada", "time": "2026-01-01T00:00:00Z", "chosen": chosen}
        for path, verdict, chosen in made
    ]
    gallery = Gallery(title="line", scores={"normal": [0.1, 0.2, 0.3]}, threshold=0.5, decisions=decisions)
    (tmp_path / "page.html").write_text(gallery_page(cards, gallery))
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator('[data-cell="good part/normal"]').inner_text() == "1"
    assert page.evaluate("exported()") == decisions[:1]
    page.close()
