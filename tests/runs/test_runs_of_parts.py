"""Runs of a profile that decides part by part: rows, summary, and what comes one by one."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from small_profiles import inspects_all

from adaptclip_hf import InspectionProfile
from adaptclip_hf.cli import main
from adaptclip_hf.engine import AnomalyScorer
from adaptclip_hf.inspection.parts import UsualPart
from adaptclip_hf.reporting import print_nothing
from adaptclip_hf.runs.executor import Here
from adaptclip_hf.runs.index import NotedPhoto
from adaptclip_hf.runs.part_labels import label_parts, label_so_far
from adaptclip_hf.runs.run import Run
from adaptclip_hf.runs.sources import Source
from adaptclip_hf.runs.spec import RunSpec
from adaptclip_hf.runs.store_lines import LineStore
from adaptclip_hf.synthetic import make_category, render_sample


@pytest.fixture(scope="module")
def line(small_folder, tmp_path_factory) -> Path:
    """A profile of six good parts, of which one lacks a view; and a line of four: bad, lacking, unreadable, good."""
    folder, category = tmp_path_factory.mktemp("valves"), make_category(5, "metal ring")
    good, today = folder / "good", folder / "today"
    good.mkdir(), today.mkdir()
    for number in range(6):
        for view in ("side", "top")[: 1 if number == 5 else 2]:
            render(category, 10 * number + len(view)).save(good / f"G{number}-{view}.png")
    for number, name in enumerate(("bad", "lacking", "broken", "well")):
        for view in ("side", "top"):  # nearly as photos of the profile are, so that none is a false alarm
            photo = np.asarray(render(category, 10 * number + len(view)))
            Image.fromarray(np.minimum(photo, 250) + np.uint8(2)).save(today / f"{name}-{view}.png")
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(today / "bad-top.png")
    (today / "lacking-side.png").unlink()
    (today / "broken-side.png").write_bytes(b"no image")
    Image.fromarray(noise[::-1]).save(today / "alone.png")
    words = ["fit", "--no-verdict", "--quiet", "--normal", good, "--false-alarm-rate", "20%", "--model", small_folder]
    assert (
        main([str(word) for word in (*words, "--part-pattern", "{part}-{view}", "--output", folder / "profile")]) == 0
    )
    inspects_all(folder / "profile")
    return folder


def render(category, number: int) -> Image.Image:
    return Image.fromarray(render_sample(category, number, 60, defect=False)[0])


def detect(line: Path, output: Path, *words) -> int:
    given = ["detect", line / "today", "--profile", line / "profile", "--output", output, "--no-heatmaps", *words]
    return main([str(word) for word in given])


def lines(output: Path) -> dict[str, dict]:
    rows = map(json.loads, (output / "results.jsonl").read_text().splitlines())
    return {Path(row["path"]).stem: row for row in rows}


def test_each_row_says_the_part_and_its_label(line, tmp_path, capsys):
    assert detect(line, tmp_path, "--format", "csv") == 1  # one file is broken
    told, rows = capsys.readouterr().out, lines(tmp_path)
    assert rows["bad-side"]["part"] == str(line / "today" / "bad")
    assert rows["bad-side"]["label"] == "normal" and rows["bad-top"]["label"] == "anomalous"
    assert {name: row["part_label"] for name, row in rows.items()} == {
        "bad-side": "anomalous",
        "bad-top": "anomalous",
        "lacking-top": "normal",
        "broken-side": "normal",
        "broken-top": "normal",
        "well-side": "normal",
        "well-top": "normal",
        "alone": None,
    }
    assert rows["alone"]["part"] is None and rows["alone"]["label"] == "anomalous"
    assert "4 parts: 1 anomalous, 3 normal" in told and f"anomalous parts: {line / 'today' / 'bad'}\n" in told
    [differing] = [each for each in told.splitlines() if "not photographed as the profile's" in each]
    assert differing.count("(lacks view side)") == 2 and "lacking (" in differing and "broken (" in differing
    assert "2 parts were" in differing and "well" not in differing
    assert "1 image belongs to no part" in told
    table = {
        Path(row["path"]).stem: row for row in csv.DictReader((tmp_path / "results.csv").open(encoding="utf-8-sig"))
    }
    assert table["well-top"]["part_label"] == "normal" and table["alone"]["part"] == ""
    assert detect(line, tmp_path) == 1 and lines(tmp_path) == rows  # again, with nothing to do


def test_parquet_parts_hold_the_same(line, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where Ray is not installed
    assert detect(line, tmp_path / "parts", "--engine", "ray", "--quiet") == 1
    assert detect(line, tmp_path / "lines", "--quiet") == 1
    [part] = (tmp_path / "parts").glob("part-*.parquet")
    found = {Path(row["path"]).stem: row for row in parquet.read_table(part).to_pylist()}
    for name, row in lines(tmp_path / "lines").items():
        assert (found[name]["part"], found[name]["part_label"]) == (row["part"], row["part_label"])


def test_the_false_discovery_rate_is_that_of_parts(line, tmp_path, capsys):
    assert detect(line, tmp_path, "--false-discovery-rate", "60%", "--quiet") == 1
    for row in lines(tmp_path).values():
        own = [each for each in lines(tmp_path).values() if row["part"] and each["part"] == row["part"]]
        if own:
            labels = {each["label"] for each in own}
            assert row["part_label"] == ("anomalous" if "anomalous" in labels else "normal")
    assert lines(tmp_path)["bad-top"]["label"] == "anomalous"


def test_a_list_names_parts(line, small_folder, tmp_path, capsys):
    """A profile is fitted from a list and decides another one; an image that is listed for another part moves there."""
    good = sorted((line / "good").iterdir())
    fitted = [(photo, number // 2) for number, photo in enumerate(good[:10])]
    written = write_list(tmp_path / "good.csv", fitted)
    words = [
        "fit",
        "--no-verdict",
        "--quiet",
        "--normal",
        written,
        "--false-alarm-rate",
        "20%",
        "--model",
        small_folder,
    ]
    assert main([str(word) for word in (*words, "--output", tmp_path / "profile")]) == 0
    profile = InspectionProfile.from_pretrained(tmp_path / "profile")
    assert profile.usual_part == UsualPart(2, (), None) and len(profile.calibration.scores) == 5
    assert "decides part by part" in capsys.readouterr().out
    inspects_all(tmp_path / "profile")
    today = line / "today"
    asked = [(today / "bad-top.png", "x"), (today / "well-side.png", "x"), (today / "well-top.png", "y")]
    command = ["detect", "--profile", tmp_path / "profile", "--output", tmp_path / "out", "--no-heatmaps", "--input"]
    assert main([str(word) for word in (*command, write_list(tmp_path / "today.csv", asked))]) == 0
    told, rows = capsys.readouterr().out, lines(tmp_path / "out")
    assert [row["part_label"] for row in rows.values()] == ["anomalous", "anomalous", "normal"]
    assert "2 parts: 1 anomalous, 1 normal" in told and "y (1 of 2 photos)" in told
    asked[1] = (today / "well-side.png", "y")
    assert main([str(word) for word in (*command, write_list(tmp_path / "today.csv", asked))]) == 0
    rows = lines(tmp_path / "out")
    assert (rows["well-side"]["part"], rows["well-side"]["part_label"]) == ("y", "normal")


def write_list(file: Path, rows: list[tuple]) -> Path:
    with file.open("w") as opened:
        csv.writer(opened).writerows([("path", "part"), *rows])
    return file


def test_photos_that_come_one_by_one(line, tmp_path):
    """Each row says what is known of its part when it is decided, and at the end all say the same."""
    profile = InspectionProfile.from_pretrained(line / "profile")
    spec = RunSpec(profile.model, profile)
    run = Run(Here(spec, spec.scorer(), print_nothing), LineStore(tmp_path, spec), print_nothing, progress=False)
    assert isinstance(run.executor.scorer, AnomalyScorer)
    said = []
    for name in ("well-top", "bad-top", "lacking-top", "well-side", "bad-side"):
        source = Source(str(line / "today" / f"{name}.png"))
        run.score([source], lambda row: said.append((Path(row["path"]).stem, row["part_label"])))
    assert said == [
        ("well-top", None),
        ("bad-top", "anomalous"),
        ("lacking-top", None),
        ("well-side", "normal"),
        ("bad-side", "anomalous"),
    ]
    assert profile.usual_part is not None
    summary = label_parts(run.store, profile.usual_part, awaiting=True)
    assert {name: row["part_label"] for name, row in lines(tmp_path).items()} == {
        "well-top": "normal",
        "bad-top": "anomalous",
        "lacking-top": None,
        "well-side": "normal",
        "bad-side": "anomalous",
    }
    assert summary.labels == {"normal": 2, "anomalous": 1}


def test_what_is_known_before_all_photos_have_come():
    usual, row = UsualPart(3, (), None), {"path": "c", "label": "normal", "error": None}
    seen = [NotedPhoto("a", "normal", False), NotedPhoto("b", None, True)]
    assert label_so_far(seen, row, usual) is None  # one of three was not read
    assert label_so_far([*seen, NotedPhoto("d", "normal", False)], row, usual) == "normal"
    assert label_so_far([*seen, NotedPhoto("d", "not inspectable", False)], row, usual) == "not inspectable"
    assert label_so_far(seen, row | {"label": "anomalous"}, usual) == "anomalous"


def test_rows_of_earlier_versions_open(line, tmp_path):
    assert detect(line, tmp_path, "--quiet") == 1
    file = tmp_path / "results.jsonl"
    rows = [json.loads(text) for text in file.read_text().splitlines()]
    for row in rows:
        del row["part"], row["part_label"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert detect(line, tmp_path, "--format", "parquet", "--quiet") == 1
    assert all(row["part_label"] is None for row in lines(tmp_path).values())
