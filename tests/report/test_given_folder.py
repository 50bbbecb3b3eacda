"""A page of results that were given: it fetches nothing, shows what lies here, and says what it does not show."""

import json
import re
import shutil
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from adaptclip_hf.cli import main


def lines(folder: str) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "results.jsonl").read_text().splitlines()]


def write(folder: str, rows: list[dict]):
    Path(folder, "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def results(small_folder, photos, tmp_path, monkeypatch, capsys) -> list[dict]:
    """The rows of three photos in `day`, in `out`; the current folder holds both."""
    monkeypatch.chdir(tmp_path)
    Path("day").mkdir()
    for index, photo in enumerate(photos["bad"]):
        shutil.copy(photo, f"day/{index}.png")
    call = ["detect", "day", "--model", str(small_folder), "--device", "cpu", "--output", "out", "--quiet"]
    assert main(call) == 0
    capsys.readouterr()
    return lines("out")


def report(folder: str = "out") -> str:
    assert main(["report", folder]) == 0
    return Path(folder, "report.html").read_text()


def pictures(content: str) -> int:
    return content.count('src="data:image/jpeg;base64,')


def test_nothing_is_fetched_and_no_other_picture_is_a_heatmap(results, tmp_path, monkeypatch, capsys):
    fetched = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda address, **more: fetched.append(address) or 1 / 0)
    Image.new("RGB", (90, 90)).save("secret.png")
    first, second, third = results
    rows = [
        {**first, "path": "http://127.0.0.1:1/a.png", "heatmap": "http://127.0.0.1:1/h.png"},
        {**second, "path": (tmp_path / "secret.png").as_uri(), "heatmap": str(tmp_path / "secret.png")},
        {**third, "path": "data:image/png;base64,AAAA", "heatmap": "../secret.png"},
    ]
    write("out", rows)
    Path("out/heatmaps/link.png").symlink_to(tmp_path / "secret.png")
    write("out", [*rows, {**third, "heatmap": "out/heatmaps/link.png"}])
    content = report()
    said = capsys.readouterr().out
    assert not fetched and pictures(content) == 1  # the last one's own photo
    for text in (content, said):
        assert "photos at addresses, which a report does not fetch: 1 (http" in text
        assert "photos that are not where they were, or have changed since: 2 (" in text
        assert "heatmaps that are not in the folder: 4 (" in text


def test_a_folder_that_was_moved_shows_its_pictures(results, monkeypatch, tmp_path):
    assert pictures(report()) == 6
    monkeypatch.chdir("out")
    assert pictures(report(".")) == 6 and "<h1>out</h1>" in Path("report.html").read_text()
    monkeypatch.chdir(tmp_path)
    Path("archive").mkdir()
    Path("out").rename("archive/monday")
    content = report("archive/monday")
    assert pictures(content) == 6 and "<h1>monday</h1>" in content and "that are not" not in content
    Path("day").rename("archive/day")  # as the results lay beside the photos, they do again
    assert pictures(report("archive/monday")) == 6


def test_results_by_whole_paths_that_were_moved_together(results, tmp_path, small_folder, capsys):
    call = ["detect", str(tmp_path / "day"), "--model", str(small_folder), "--device", "cpu", "--quiet"]
    assert main([*call, "--output", str(tmp_path / "whole")]) == 0
    (tmp_path / "away").mkdir()
    for name in ("day", "whole"):
        (tmp_path / name).rename(tmp_path / "away" / name)
    assert pictures(report("away/whole")) == 6
    shutil.rmtree("away/day")
    Path("away/whole/heatmaps/1.png").unlink()
    capsys.readouterr()
    content, said = report("away/whole"), capsys.readouterr().out
    assert pictures(content) == 2
    for text in (content, said):
        assert "or have changed since: 3 (" in text and "heatmaps that are not in the folder: 1 (" in text


def test_another_photo_of_the_same_name_is_not_shown(results, capsys):
    Image.new("RGB", (40, 40)).save("day/1.png")
    assert pictures(report()) == 5 and "day/1.png" in capsys.readouterr().out


def test_names_and_texts_are_shown_as_what_they_are(results):
    names = [
        '"><img src=x onerror=alert(1)>.png',
        "javascript:alert(1)",
        "a\u202egnp.exe",
        "l1\nl2\x1b[2J",
        "{{ 7*7 }}",
    ]
    rows = [{**results[0], "path": name} for name in names]
    failed = {**results[1], "path": names[0], "error": "<script>alert(1)</script>", "score": None, "size": None}
    write("out", [*rows, failed])
    content = report()
    assert "<img src=x" not in content and "<script>alert" not in content and "49" not in re.findall(r"{{.*}}", content)
    assert "\u202e" not in content and "\x1b" not in content and "a\\u202egnp.exe" in content
    assert 'href="javascript' not in content and "{{ 7*7 }}" in content


FAULTS = {
    "drift.jsonl": ['{"last": "a"}', "[]", '{"last": 1, "time": NaN}', "x"],
    "detect.json": ["[]", "{", '{"threshold": "0.5"}', '{"profile": {"description": 5}}', '{"profile": 1}', "[" * 9000],
}


@pytest.mark.parametrize("name", FAULTS)
def test_damaged_files_beside_the_results_are_named(results, name, capsys):
    for content in FAULTS[name]:
        Path("out", name).write_text(content + "\n")
        assert main(["report", "out"]) == 1
        error = capsys.readouterr().err
        assert f"out/{name}" in error and len(error.splitlines()) == 1


def test_a_line_that_is_being_written_is_left_out(results):
    with Path("out/results.jsonl").open("a") as opened:
        opened.write('{"path": "half')
    assert report().count('class="card"') == 3


def test_the_nearest_good_photo_is_shown_where_it_still_lies(results, monkeypatch):
    shutil.copy("day/0.png", "good.png")
    before = pictures(report())
    names = ("good.png", "gone.png", "http://127.0.0.1:1/a.png")
    write("out", [row | {"nearest": name} for row, name in zip(results, names, strict=True)])
    content = report()
    assert pictures(content) == before + 1
    assert all(f"most like this good part: {name}" in content for name in names)
