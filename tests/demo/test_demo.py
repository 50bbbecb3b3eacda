"""The page as a visitor meets it, in a real browser, and what stands behind it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile

import pytest
from PIL import Image

from adaptclip_hf import AnomalyDetector
from adaptclip_hf.cli import main
from adaptclip_hf.demo.session import EXAMPLES, Session, make_example

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def detector(small_folder) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(small_folder, device="cpu")


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> tuple[list[str], list[str]]:
    return make_example("ring", tmp_path_factory.mktemp("example"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_at_hand(name, tmp_path):
    good, photos = make_example(name, tmp_path)
    assert len(good) == 20 and len(photos) == 5 and all(Image.open(file).size == (240, 240) for file in good + photos)


def test_a_profile_of_the_page_decides_as_it_did_there(detector, small_folder, example, tmp_path, capsys):
    good, photos = example
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    session = Session().fit(detector, [*good, str(broken)], 0.2).inspect(detector, [*photos, str(broken)])
    assert session.left_out == ("broken.png",) and session.results[-1].error
    for moved in (session, session.with_threshold(0.9 * session.results[0].score)):
        zipfile.ZipFile(moved.save(tmp_path)).extractall(tmp_path / "unpacked")
        call = [
            "detect",
            *photos,
            "--profile",
            str(tmp_path / "unpacked" / "profile"),
            "--format",
            "csv",
            "--overwrite",
        ]
        assert main([*call, "--model", str(small_folder), "--output", str(tmp_path / "out"), "--quiet"]) == 0
        lines = (tmp_path / "out" / "results.csv").read_text().splitlines()[1:]
        assert [line.split(",")[3] for line in lines] == [each.label for each in moved.results[:-1]]
        loaded = Session.load(detector, tmp_path / "profile.zip").inspect(detector, photos)
        assert [each.label for each in loaded.results] == [each.label for each in moved.results[:-1]]
        shutil.rmtree(tmp_path / "unpacked")


def test_what_is_wrong_is_said(detector, example, tmp_path):
    with pytest.raises(ValueError, match="Add photos of good parts"):
        Session().fit(detector, [], 0.1)
    with pytest.raises(ValueError, match="cannot carry"):
        Session().fit(detector, example[0][:4], 0.05)
    with pytest.raises(ValueError, match="Add photos to inspect"):
        Session().inspect(detector, None)
    wrong = tmp_path / "wrong.zip"
    wrong.write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"wrong\.zip is not a profile"):
        Session.load(detector, wrong)
    with zipfile.ZipFile(wrong, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("../../profile.json", b"{}")
        packed.writestr("features-0123456789abcdef.safetensors", bytes(1000))
    with pytest.raises(ValueError, match="is not a profile"):
        Session.load(detector, wrong)
    assert not (tmp_path.parent / "profile.json").exists()


def test_zero_shot_before_there_is_a_profile(detector, example):
    session = Session().inspect(detector, example[1])
    assert all(each.label is None and each.score is not None for each in session.ranked())
    assert "5 scored" in session.histogram() and Session().histogram() == ""


@pytest.fixture(scope="module")
def page(small_folder, tmp_path_factory):
    """The address of `adaptclip demo` in a process of its own."""
    folder = tmp_path_factory.mktemp("demo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "secret.txt").write_text("secret")
    command = [sys.executable, "-m", "adaptclip_hf.cli", "demo", "--no-browser", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--model", str(small_folder)], stdout=log, stderr=log, cwd=folder, env=dict(os.environ)
        )
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(address)
            break
        except urllib.error.URLError:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
    yield address
    process.kill()
    process.wait()


@pytest.mark.slow
def test_nothing_outside_its_folder_is_served(page, small_folder):
    for path in ("/etc/passwd", "secret.txt", "../secret.txt", f"{small_folder}/config.json", "/proc/self/environ"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{page}/gradio_api/file={path}")
        assert refused.value.code in (403, 404)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_in_a_browser(page, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.set_default_timeout(60_000)
        complaints, requests = [], []
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page)
        tab.get_by_role("button", name="Learn these parts").click()  # without photos
        tab.get_by_text("Add photos of good parts first").wait_for()
        tab.get_by_role("button", name="Example: ring").click()
        tab.get_by_text("ring_good_0").first.wait_for()
        tab.get_by_role("button", name="Learn these parts").focus()
        tab.keyboard.press("Enter")  # by keyboard
        tab.get_by_text("good photos in the bank").wait_for()
        tab.get_by_role("button", name="Inspect", exact=True).click()
        tab.get_by_role("img", name=re.compile("Overlay with regions of ring")).wait_for()
        assert tab.locator("svg.histogram").count() == 1
        decided = tab.locator(".decision li").first.inner_text()
        assert "p-value" in decided and "score" in decided
        slider = tab.get_by_role("slider", name=re.compile("Threshold"))
        slider.focus()
        for _ in range(3):
            slider.press("Home")
        slider.press("ArrowRight")
        violations = axe.Axe().run(tab).response["violations"]
        serious = [
            (each["id"], [node["html"][:200] for node in each["nodes"]])
            for each in violations
            if each["impact"] in ("serious", "critical")
        ]
        assert not serious, serious
        tab.set_viewport_size({"width": 390, "height": 844})
        tab.wait_for_timeout(500)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.locator("input[type=file]").nth(1).set_input_files([str(broken)])
        tab.get_by_role("button", name="Inspect", exact=True).click()
        tab.get_by_text("broken.png cannot be opened as an image").first.wait_for(state="attached")
        assert str(tmp_path) not in tab.content()
        assert not complaints
        assert all(url.startswith((page, "data:", "blob:")) for url in requests), requests
        browser.close()
