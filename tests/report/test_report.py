"""The page of a run's results, also in a real browser where there is one."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_profiles import fit_small_profile

from adaptclip_hf.cli import main
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
    from adaptclip_hf.report import write_report

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


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_in_a_browser(results, width, height, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    main(["report", str(results)])
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: complaints.append("dialog"))
        page.goto((results / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".card:visible").count() == 21
        anomalous = page.locator('.card[data-label="anomalous"]').count()
        page.get_by_role("button", name="anomalous").focus()
        page.keyboard.press("Enter")
        assert page.locator(".card:visible").count() == anomalous > 0
        page.get_by_role("button", name="all").click()
        page.get_by_role("searchbox").fill("part_07")
        assert page.locator(".card:visible").count() == 1 and page.get_by_role("status").inner_text() == "1 of 21"
        page.get_by_role("searchbox").fill("")
        first = page.locator(".views.both .overlay").first
        assert first.is_visible()
        page.get_by_label("heatmap", exact=True).uncheck()
        assert not first.is_visible()
        page.emulate_media(media="print")
        assert not page.locator(".controls").is_visible() and page.locator(".card:visible").count() == 21
        assert not complaints
        assert all(re.match(r"(file|data):", url) for url in requests)
        browser.close()
