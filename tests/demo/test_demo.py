"""The page as a visitor meets it, in a real browser, and what stands behind it."""

import html
import io
import os
import random
import re
import shutil
import socket
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest
from commands import CLI, start_python
from PIL import Image

from adaptclip_hf import AnomalyDetector
from adaptclip_hf.cli import main
from adaptclip_hf.demo.desk import Decisions, Threshold, desk_frame
from adaptclip_hf.demo.page_folder import PageFolder
from adaptclip_hf.demo.regions import DrawnRegions, regions_frame
from adaptclip_hf.demo.session import EXAMPLES, Session, make_example
from adaptclip_hf.demo.views import about_profile
from adaptclip_hf.inspection import profile as profile_module
from adaptclip_hf.inspection.history import Review
from adaptclip_hf.inspection.pasted_defects import CELLS, Cell, PastedDefects

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module", autouse=True)
def no_verdict():
    """Tests of other things wait for no pasted defects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_module, "paste_defects", lambda *given: None)
        yield


@pytest.fixture(scope="module")
def detector(small_folder) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(small_folder, device="cpu")


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> tuple[list[str], list[str]]:
    return make_example("ring", tmp_path_factory.mktemp("example"))


@pytest.fixture(scope="module")
def fitted(detector, example) -> Session:
    """With a profile of the example's good parts."""
    return Session().fit(detector, example[0], 0.2)


@pytest.fixture(scope="module")
def inspected(detector, fitted, example) -> Session:
    """With the example's photos decided."""
    return fitted.inspect(detector, example[1])


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_at_hand(name, tmp_path):
    good, photos = make_example(name, tmp_path)
    assert len(good) == 20 and len(photos) == 5 and all(Image.open(file).size == (240, 240) for file in good + photos)


def test_a_profile_of_the_page_decides_as_it_did_there(detector, small_folder, example, tmp_path, capsys):
    good, photos = example
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    session = Session().fit(detector, [*good, str(broken)], 0.2).inspect(detector, [*photos, str(broken)])
    assert session.results[-1].error
    assert len(session.left_out) == 1 and session.left_out[0].startswith("broken.png cannot be opened")
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


def test_the_page_tells_what_the_profile_would_find(detector, example, monkeypatch):
    pasted = PastedDefects(0, 3, tuple(Cell(*cell, (0.0,)) for cell in CELLS), 1.0)
    monkeypatch.setattr(profile_module, "paste_defects", lambda *given: pasted)
    session = Session().fit(detector, example[0], 0.2)
    about = about_profile(session)
    assert "verdict: nearly blind; of 40 defects pasted on good photos it would find 0" in about and "WARNING" in about


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


def test_what_is_no_photo_is_named_and_passed_over(detector, example, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("no photo")
    session = Session().fit(detector, [*example[0], str(notes)], 0.2).inspect(detector, [str(notes), *example[1]])
    assert session.left_out == ("passed over, no images (.txt): notes.txt",) and "notes.txt" in about_profile(session)
    assert [each.name for each in session.results] == example[1]
    with pytest.raises(ValueError, match=r"Add photos to inspect first.*notes\.txt"):
        session.inspect(detector, [str(notes)])


def test_decisions_make_the_profile_of_tomorrow(detector, example, inspected):
    bad, good = "ring_crack.png", "ring_good_20.png"
    review = Review("Ada", "2026-01-05T09:30:00.000Z")
    tomorrow = inspected.update(detector, {bad: "defect", good: "good part"}, {bad: review})
    assert "Ada" in {photo.reviewer for photo in tomorrow.profile.history[-1].photos}
    roles = {Path(photo.name).name: photo.role for photo in tomorrow.profile.features.photos}
    assert roles[bad] == "defect" and roles[good] == "confirmed"
    assert tomorrow.by_name.keys() == inspected.by_name.keys() and tomorrow.by_name[good].among_normals
    assert tomorrow.profile.digest() != inspected.profile.digest()
    with pytest.raises(ValueError, match="passwd is not among the inspected photos"):
        inspected.update(detector, {"/etc/passwd": "good part"})
    with pytest.raises(ValueError, match="Say of some photos"):
        inspected.update(detector, {})
    with pytest.raises(ValueError, match="no profile"):
        Session().inspect(detector, example[1]).update(detector, {bad: "defect"})


def test_the_desk_shows_photos_by_their_names(detector, example, inspected, tmp_path):
    twin, broken = tmp_path / Path(example[1][0]).name, tmp_path / "broken.png"
    shutil.copy(example[1][1], twin)
    broken.write_bytes(b"no image")
    session = inspected.inspect(detector, [*example[1], str(twin), str(broken)])
    item = {"path": "ring_hole.png", "verdict": "defect", "reviewer": None, "time": "2026-01-05T09:30:00.000Z"}
    said = Decisions.of({"decisions": [item | {"chosen": "worst-first"}]}).decisions
    shown = html.unescape(desk_frame(session, said))
    assert 'aria-label="enlarge ring_good_20.png (2)"' in shown and "broken.png cannot be opened" in shown
    assert str(tmp_path) not in shown and str(Path(example[1][0]).parent) not in shown
    assert '"verdict": "defect"' in shown and session.profile.digest() in shown
    assert desk_frame(Session(), []) == ""
    for wrong in (item, item | {"chosen": "at will"}, item | {"chosen": "worst-first", "verdict": "scrap"}):
        with pytest.raises(ValueError, match=r"decisions\.0\."):
            Decisions.of({"decisions": [wrong]})
    assert Threshold.of({"threshold": 1}).threshold == 1 and Threshold.of({"threshold": None}).threshold is None
    with pytest.raises(ValueError, match="threshold"):
        Threshold.of({"threshold": float("nan")})


def test_drawn_regions_are_used_and_saved(detector, example, tmp_path):
    triangle = {"outline": [[100, 0], [140, 0], [100, 40]]}
    drawn = DrawnRegions.of(
        {"size": [240, 240], "look": [20, 30, 200, 180], "hide": [{"box": [0, 0, 50, 60]}, triangle]}
    )
    session = Session().fit(detector, example[0], 0.2, drawn.view())
    view = Session.load(detector, session.save(tmp_path)).profile.view
    assert view.region == (20, 30, 200, 180) and view.ignore.shape == (240, 240)
    assert view.ignore[:60, :50].all() and not view.ignore[60].any() and not view.ignore[:, 50:100].any()
    assert view.ignore[5, 110] and not view.ignore[39, 139] and view.ignore.sum() < 50 * 60 + 41 * 41
    assert "looks only at 200 x 180 pixels at (20, 30)" in about_profile(session)
    everywhere = DrawnRegions.of({"size": [240, 240], "hide": [{"box": [0, 0, 240, 240]}]})
    with pytest.raises(ValueError, match="nothing is left to look at"):
        everywhere.view()
    for wrong in ({"size": [240]}, {"size": [9, 9], "look": [0, 0, -1, 5]}, {"size": [9, 9], "hide": [{"box": "all"}]}):
        with pytest.raises(ValueError, match=r"size|look|hide"):
            DrawnRegions.of(wrong)


def test_drawn_zones_are_used_saved_and_kept(detector, example, tmp_path):
    seal = {"name": "seal", "box": [40, 60, 100, 80], "min_area": 0.5}
    drawn = DrawnRegions.of({"size": [240, 240], "zones": [seal], "min_area": 2, "scale": 0.1})
    session = Session().fit(detector, example[0], 0.2, drawn.view(), drawn.acceptance())
    loaded = Session.load(detector, session.save(tmp_path))
    assert loaded.profile.acceptance.limits() == [50, 200] and loaded.profile.acceptance.zones[0].box == (
        40,
        60,
        100,
        80,
    )
    assert "in zone seal [40, 60, 100, 80] from 50 pixels" in about_profile(loaded)
    updated = session.inspect(detector, example[1]).update(detector, {"ring_crack.png": "defect"})
    assert updated.profile.acceptance.zones == loaded.profile.acceptance.zones


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"zones": [{"name": " ", "box": [0, 0, 5, 5]}]}, "zone's name"),
        ({"zones": [{"name": "seal", "box": [0, 0, 5, 5], "min_area": 0}]}, "zone seal: min_area above 0"),
        (
            {"zones": [{"name": "seal", "box": [200, 0, 50, 5]}]},
            "The photo has 240 x 240 pixels, and zone seal ends at",
        ),
        ({"zones": [{"name": "seal", "box": [0, 0, 5, 5]}] * 2}, "two zones named seal"),
        ({"zones": [{"name": "seal", "box": [0, 0, 5, 5], "min_area": 26}]}, "zone seal has 25 pixels"),
        ({"min_area": -1}, "min_area above 0"),
        ({"min_area": 5, "scale": 0}, "a scale in millimetres"),
        ({"scale": 0.1}, "The scale says what areas mean"),
    ],
)
def test_what_is_wrong_with_zones_is_said_in_a_line(wrong, said):
    with pytest.raises(ValueError, match=said) as refused:
        DrawnRegions.of({"size": [240, 240]} | wrong).acceptance()
    assert "\n" not in str(refused.value)


def test_without_areas_the_score_decides():
    assert DrawnRegions.of({"size": [240, 240], "look": [0, 0, 9, 9]}).acceptance() is None


def test_names_of_photos_are_no_html(example, tmp_path):
    named = tmp_path / "<b onclick=alert(1)>.png"
    shutil.copy(example[0][0], named)
    assert "<b onclick" not in html.unescape(regions_frame([str(named)], None))


def test_zero_shot_before_there_is_a_profile(detector, example):
    session = Session().inspect(detector, example[1])
    assert all(each.label is None and each.score is not None for each in session.results)
    assert all(result.name in example[1] for result in session.by_name.values())
    assert "5 scored" in re.sub(r"<[^>]+>", "", html.unescape(desk_frame(session, [])))


@pytest.fixture(scope="module")
def temporary_files(tmp_path_factory) -> Path:
    """Where the page keeps files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def page(small_folder, tmp_path_factory, temporary_files):
    """The address of `adaptclip demo` in a process of its own."""
    folder = tmp_path_factory.mktemp("demo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "secret.txt").write_text("secret")
    command = [*CLI, "demo", "--no-browser", "--port", port, "--model", small_folder]
    environment = os.environ | {"TMPDIR": str(temporary_files)}
    with (folder / "log").open("w") as log:
        process = start_python(*command, stdout=log, stderr=log, folder=folder, environment=environment)
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


# what has the focus, in whatever frame, by its name
FOCUSED = """() => {
  let element = document.activeElement;
  while (element?.contentDocument) element = element.contentDocument.activeElement;
  return element?.getAttribute("aria-label") || element?.innerText || element?.value || "";
}"""


def tab_to(tab, name: str, key: str = "Tab"):
    """Presses Tab until the focus is on what has a name."""
    for _ in range(150):
        tab.keyboard.press(key)
        if name in tab.evaluate(FOCUSED):
            return
    raise AssertionError(f"{key} does not lead to {name}")


def press(tab, name: str):
    tab_to(tab, name)
    tab.keyboard.press("Enter")


def serious_faults(tab) -> list:
    """What axe finds in the page and in each of its frames."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = []
    for frame in tab.frames:
        faults = axe.Axe().run(frame).response["violations"]
        found += [
            (each["id"], [node["html"][:200] for node in each["nodes"]])
            for each in faults
            if each["impact"] in ("serious", "critical")
        ]
    return found


def folders_in(folder: Path) -> int:
    return sum(each.is_dir() for each in folder.rglob("*"))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_in_a_browser(page, tmp_path, temporary_files):
    playwright = pytest.importorskip("playwright.sync_api")
    broken, notes = tmp_path / "broken.png", tmp_path / "notes.txt"
    broken.write_bytes(b"no image")
    notes.write_text("no photo")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.set_default_timeout(60_000)
        complaints, requests = [], []
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page)
        good, desk = (tab.frame_locator(f"iframe[title^={title}]") for title in ("Good", "Inspected"))
        tab.get_by_role("button", name="Learn these parts").click()  # without photos
        tab.get_by_text("Add photos of good parts first").wait_for()
        press(tab, "Example: ring")  # from here to the decisions of tomorrow by keyboard, but for one box
        good.get_by_role("button", name="ring_good_3.png").wait_for()

        good.get_by_text("Look only at a part").click()
        good.locator(".board svg").wait_for()
        board = good.locator(".board").bounding_box()
        drawings = {
            "Look only here": (0.1, 0.1, 0.9, 0.9),
            "Zone with its own limit": (0.4, 0.4, 0.6, 0.6),
            "Leave out an outline": (0.1, 0.1, 0.3, 0.2),
        }
        for name, corners in drawings.items():
            good.get_by_role("button", name=name, exact=True).click()
            left, top, right, bottom = (board["width"] * share for share in corners)
            tab.mouse.move(board["x"] + left, board["y"] + top)
            tab.mouse.down()
            tab.mouse.move(board["x"] + right, board["y"] + top)
            tab.mouse.move(board["x"] + right, board["y"] + bottom)
            tab.mouse.up()
        assert good.get_by_label("width").first.input_value() == "192"
        good.get_by_label("name", exact=True).fill("seal")
        good.get_by_label("smallest area in pixels", exact=True).fill("30")
        press(tab, "Add by numbers")
        tab.keyboard.type("7")  # in the first field of the box that was added
        assert "leaves out 2 parts" in good.locator("#told").inner_text()

        press(tab, "Learn these parts")
        tab.get_by_text("good photos in the bank").wait_for()
        assert "looks only at" in tab.content() and "leaves out" in tab.content()
        assert "in zone seal [96, 96, 48, 48] from 30 pixels" in tab.content()
        press(tab, "Inspect")
        desk.get_by_role("button", name="enlarge ring_crack.png").wait_for()
        assert not serious_faults(tab)
        tab.set_viewport_size({"width": 390, "height": 844})
        tab.wait_for_timeout(500)
        assert all(frame.evaluate("document.documentElement.scrollWidth <= innerWidth") for frame in tab.frames)
        assert not serious_faults(tab)
        tab.set_viewport_size({"width": 1280, "height": 900})

        tab_to(tab, "enlarge ring")
        random_pauses = random.Random(0)
        for label in ["with these decisions (1)", "with these decisions"] * 20:  # whatever comes between two messages
            for key in "dud" if label.endswith(")") else "u":
                tab.keyboard.press(key)
                tab.wait_for_timeout(random_pauses.uniform(0, 60))
            tab.get_by_role("button", name=re.compile(re.escape(label) + "$")).wait_for()
        tab.keyboard.type("ddg")
        tab.get_by_role("button", name="with these decisions (3)").wait_for()
        tab_to(tab, "with these decisions (3)", "Shift+Tab")
        tab.keyboard.press("Enter")
        tab.get_by_text("The profile has 3 photos more").wait_for()
        desk.get_by_text("one of the profile's own").first.wait_for()

        before = folders_in(temporary_files)
        for number in range(10):
            desk.get_by_label("Threshold as a number").fill(f"0.{30 + number}")
            tab.get_by_role("button", name=f"Keep the threshold 0.{30 + number}00").wait_for()
        tab.get_by_role("button", name="Keep the threshold").click()
        tab.get_by_text("threshold: score 0.3900").wait_for()
        assert folders_in(temporary_files) <= before + 1
        tab.get_by_role("button", name="Save or load").click()
        with tab.expect_download() as download:
            tab.get_by_role("button", name="Save the profile").click()
        assert zipfile.ZipFile(download.value.path()).testzip() is None

        tab.locator("input[type=file]").nth(1).set_input_files([str(broken), str(notes)])
        tab.get_by_role("button", name="Inspect", exact=True).click()
        desk.get_by_text("broken.png cannot be opened as an image").wait_for()
        tab.get_by_text("notes.txt").last.wait_for()
        assert all(str(tmp_path) not in frame.content() for frame in tab.frames)
        assert not complaints
        assert all(url.startswith((page, "data:", "blob:", "about:srcdoc")) for url in requests), requests
        browser.close()


def packed_profile(file, session, tmp_path, name="profile/{}", change=lambda content: content):
    """The session's profile as an archive of other programs."""
    with zipfile.ZipFile(session.save(tmp_path)) as saved, zipfile.ZipFile(file, "w") as packed:
        for each in saved.infolist():
            packed.writestr(zipfile.ZipInfo(name.format(Path(each.filename).name)), change(saved.read(each)))
    return file


def test_archives_of_other_programs_open(detector, fitted, tmp_path):
    session = fitted
    for name in ("profile\\{}", "{}", "a/b/profile/{}", "./{}", "C:\\photos\\profile\\{}"):
        loaded = Session.load(detector, packed_profile(tmp_path / "other.zip", session, tmp_path, name))
        assert loaded.profile.digest() == session.profile.digest(), name

    def with_bom(content):
        return b"\xef\xbb\xbf" + content if content[:1] == b"{" else content

    # a saved profile has digests of its files; one that an editor wrote a mark into is refused or read, never half
    file = packed_profile(tmp_path / "bom.zip", session, tmp_path, change=with_bom)
    try:
        assert Session.load(detector, file).profile.digest() == session.profile.digest()
    except ValueError as error:
        assert "bom.zip" in str(error)


def test_every_corrupt_archive_is_one_line(detector, fitted, tmp_path):
    whole = packed_profile(tmp_path / "whole.zip", fitted, tmp_path).read_bytes()
    deflated = io.BytesIO()
    with zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("profile.json", b"{}" * 5000)
    chance, file = random.Random(4), tmp_path / "corrupt.zip"
    for number in range(300):
        content = bytearray((whole, deflated.getvalue())[number % 2])
        kind = number % 3
        if kind == 0:
            del content[chance.randrange(len(content)) :]
        for _ in range(chance.choice((1, 5, 50)) if kind else 0):
            content[chance.randrange(len(content)) if kind == 1 else -chance.randrange(1, 100)] = chance.randrange(256)
        file.write_bytes(content)
        try:
            Session.load(detector, file)  # a byte that nothing depends on
        except ValueError as error:
            assert str(error).startswith("corrupt.zip is not a profile") and "\n" not in str(error)
            assert tempfile.gettempdir() not in str(error)


def test_an_archive_of_two_profiles_or_of_a_large_one(detector, tmp_path, monkeypatch):
    monkeypatch.setattr("adaptclip_hf.demo.session.LARGEST_PROFILE", 5_000_000)
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for folder in "ab":
            packed.writestr(f"{folder}/profile.json", b"{}")
    with pytest.raises(ValueError, match="more than one profile"):
        Session.load(detector, file)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("profile.json", bytes(6_000_000))
    with pytest.raises(ValueError, match="more than a profile"):
        Session.load(detector, file)


def test_a_threshold_below_every_score_is_shown_and_saved(detector, inspected, tmp_path):
    session = inspected
    for threshold in (0, 1e-9, 1, 1.0):
        moved = session.with_threshold(threshold)
        shown = about_profile(moved) + html.unescape(desk_frame(moved, [])).split("<script", 1)[0]
        assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]+", "", shown), re.IGNORECASE), threshold
        assert Session.load(detector, moved.save(tmp_path)).profile.calibration.threshold == threshold
    for wrong in (None, float("nan"), float("inf"), -1, "0.5"):
        with pytest.raises(ValueError, match="threshold"):
            session.with_threshold(wrong)


def test_postscript_in_a_png_is_named_and_never_run(detector, example, tmp_path, monkeypatch):
    canary, program = tmp_path / "ran", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {canary}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    part = tmp_path / "part.png"
    part.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n")
    session = Session().inspect(detector, [str(part), example[1][0]])
    assert session.results[0].error and session.results[1].score is not None and not canary.exists()
    assert len(Session().fit(detector, [*example[0], str(part)], 0.2).left_out) == 1 and not canary.exists()


def test_the_pages_files_do_not_stay(monkeypatch):
    folder = PageFolder()
    first = folder.new()
    assert folder.new().is_dir() and first.is_dir()
    monkeypatch.setattr("adaptclip_hf.demo.page_folder.COPYING", -60)
    last = folder.new()
    assert last.is_dir() and not first.exists()
    del folder
    assert not last.exists()
