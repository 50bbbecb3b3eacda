"""What lies in a folder of results is what its run wrote: it names no other file, and what is damaged is named."""

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from adaptclip_hf.cli import main
from adaptclip_hf.files import csv_cell, from_csv_cell, inside
from adaptclip_hf.resume import parsed_settings
from adaptclip_hf.runs import executor, sources
from adaptclip_hf.runs.rows import LATER, read_row
from adaptclip_hf.runs.tables import part_schema, require_part, rows_of, table_of


def lines(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]


def change(output: Path, number: int, **fields):
    """Other fields in one line of the results."""
    rows = lines(output)
    rows[number] |= fields
    (output / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(small_folder, photos, tmp_path, monkeypatch):
    """Scores `day`, three photos, into `out`, with further words; the current folder holds both."""
    monkeypatch.chdir(tmp_path)
    Path("day").mkdir()
    for index, photo in enumerate(photos["bad"]):
        shutil.copy(photo, f"day/{index}.png")

    def call(*words, output: str = "out", status: int = 0, read: bool = True) -> list[dict]:
        words = [str(word) for word in words or ["day"]]
        found = main(["detect", *words, "--model", str(small_folder), "--device", "cpu", "--output", output, "--quiet"])
        assert found == status
        return lines(Path(output)) if read and Path(output, "results.jsonl").is_file() else []

    return call


def repaint(path: str, seed: int = 255):
    """Another picture in a photo's place, of the same size and time: its bytes after the header differ."""
    before = Path(path).stat()
    content = bytearray(Path(path).read_bytes())
    Image.new("RGB", (170, 150), (seed, 0, 0)).save(path)
    short = Path(path).read_bytes()
    assert len(short) <= len(content)
    Path(path).write_bytes(short + bytes(len(content) - len(short)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = Path(path).stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_results_delete_only_their_own_pictures(run, tmp_path):
    run("day", "--save-maps")
    (tmp_path / "victim.png").write_text("mine")
    change(Path("out"), 0, heatmap=str(tmp_path / "victim.png"), map="../victim.png")
    change(Path("out"), 1, heatmap="out/heatmaps/../../victim.png", map="..")
    change(Path("out"), 2, heatmap="a\0b", map="/")
    for index in range(3):
        repaint(f"day/{index}.png")
    run("day", "--save-maps")
    assert (tmp_path / "victim.png").read_text() == "mine"
    change(Path("out"), 0, heatmap=str(tmp_path / "victim.png"))
    run("day", "--overwrite")
    assert (tmp_path / "victim.png").read_text() == "mine"


def test_links_do_not_lead_out_of_the_output(run, tmp_path, capsys):
    run()
    shutil.copytree("out", "whole")
    (tmp_path / "mine").mkdir()
    for name in ("0.png", ".unfinished-0.png", "file"):
        (tmp_path / "mine" / name).write_text("mine, and no line end")
    for name in ("heatmaps", "maps", "results.jsonl", "drift.jsonl", ".seen.jsonl"):
        shutil.rmtree("out")
        shutil.copytree("whole", "out")
        if name == "heatmaps":
            shutil.rmtree("out/heatmaps")
        Path("out", name).unlink(missing_ok=True)
        Path("out", name).symlink_to(tmp_path / "mine" / ("file" if "." in name else ""))
        run("day", *(["--overwrite"] if "." in name else []), status=1, read=False)
        assert f"out/{name} leads out of out" in capsys.readouterr().err
        assert {file.read_text() for file in (tmp_path / "mine").iterdir()} == {"mine, and no line end"}
        assert len(list((tmp_path / "mine").iterdir())) == 3


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(run):
    run()
    for file in ("out/heatmaps/mine.png", "out/notes.txt"):
        Path(file).write_text("mine")
    shutil.copytree("out/heatmaps", "other/heatmaps")
    Path("other/results.csv").write_text("mine")
    run("day", "--overwrite")
    run("day", "--overwrite", output="other")  # no run wrote there
    assert Path("out/heatmaps/mine.png").read_text() == "mine"
    assert Path("other/results.csv").read_text() == Path("other/heatmaps/mine.png").read_text() == "mine"


def test_files_that_no_run_wrote_are_not_replaced(run, capsys):
    Path("out").mkdir()
    Path("out/coco.json").write_text("my labels")
    run("day", "--format", "coco", status=1)
    assert "out/coco.json is there without" in capsys.readouterr().err
    assert Path("out/coco.json").read_text() == "my labels"


def test_inside_holds_below_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in" / "loop")
    assert inside(tmp_path / "in", "a/../b") == tmp_path / "in" / "a/../b"
    inside(tmp_path / "in", "loop/x")
    for path in ("..", "../in2/x", "out/x", "/etc/x", "out"):
        with pytest.raises(ValueError, match="leads out of"):
            inside(tmp_path / "in", path)


def test_a_photo_has_one_row_however_it_is_named(run, tmp_path):
    first = run("day")
    Path("link").symlink_to("day")
    for again in (tmp_path / "day", "./day", "day/../day", "link", "day/0.png", tmp_path / "link" / "1.png"):
        assert run(again) == first
    once = run("link", "day", tmp_path / "day", output="once")
    assert once == [
        {**row, "path": f"link/{index}.png", "heatmap": f"once/heatmaps/{index}.png", "time": once[index]["time"]}
        for index, row in enumerate(first)
    ]
    Path("own.png").symlink_to("day/0.png")  # a link to a photo is seen as a photo of its own
    assert len(run("own.png")) == 4


def test_photos_of_one_name_in_two_folders_keep_their_rows(run, tmp_path, monkeypatch, photos):
    (tmp_path / "next").mkdir()
    shutil.copy(photos["good"][0], tmp_path / "next" / "0.png")
    output = str(tmp_path / "all")
    monkeypatch.chdir(tmp_path / "day")
    run("0.png", output=output)
    monkeypatch.chdir(tmp_path / "next")
    for _ in range(2):
        found = run("0.png", output=output)
        assert [row["path"] for row in found] == ["0.png", str(tmp_path / "next" / "0.png")]
        assert found[0]["score"] != found[1]["score"]
    assert len(list((tmp_path / "all" / "heatmaps").iterdir())) == 2


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_changed_photo_is_seen_by_its_content_and_a_copied_folder_is_not_scored_again(run, engine, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where Ray is not installed
    scored = []
    read = sources.ImageReader.load
    monkeypatch.setattr(
        sources.ImageReader, "load", lambda self, source, view: scored.append(source) or read(self, source, view)
    )
    words = ["day", "--engine", engine]
    run(*words)
    assert len(scored) == 3
    repaint("day/0.png")
    run(*words)
    assert scored[3:] == ["day/0.png"]
    Path("moved").mkdir()
    shutil.copytree("day", "moved/day")  # as on another machine: all of it is new to the file system
    shutil.copytree("out", "moved/out")
    for folder in ("day", "out"):
        shutil.rmtree(folder)
    monkeypatch.chdir("moved")
    run(*words)
    assert len(scored) == 4
    repaint("day/1.png", seed=9)
    run(*words)
    assert scored[4:] == ["day/1.png"]


ROW = {
    "path": "a.png",
    "score": 0.5,
    "p_value": None,
    "label": None,
    "regions": None,
    "size": [40, 50],
    "heatmap": None,
    "map": None,
    "error": None,
    "among_normals": False,
    "bytes": 3042,
    "modified": 1700000000000000000,
}
FAULTS = {
    "NaN": ('"score": NaN', "NaN"),
    "1e999": ('"score": 1e999', "1e999"),
    "text": ('"score": "0.5"', "score"),
    "list": ('"path": ["a"]', "path"),
    "label": ('"label": "<b>"', "label"),
    "foreign": ('"more": 1', "more"),
    "size": ('"size": [0, 5]', "size"),
    "polygon": ('"regions": [{"box": [1, 2, 3, 4], "polygon": [["x", 1]]}]', "regions.0"),
    "deep": ('"regions": ' + 9000 * "[" + 9000 * "]", "nested too deep"),
    "no score": ('"score": null', "score"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_rows_are_refused(fault):
    text, named = FAULTS[fault]
    whole = json.dumps(ROW)
    assert read_row(whole) == dict.fromkeys(LATER) | ROW
    with pytest.raises(ValueError, match=named) as refused:
        read_row(f"{whole[:-1]}, {text}}}")
    assert len(str(refused.value).splitlines()) == 1


def test_a_damaged_line_is_named(run, capsys):
    run()
    with Path("out/results.jsonl").open("a") as opened:
        opened.write(json.dumps(ROW | {"score": "0.5"}) + "\n")
    for call in (lambda: run(status=1, read=False), lambda: main(["report", "out"])):
        call()
        error = capsys.readouterr().err
        assert "out/results.jsonl, line 4" in error and "score" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("content", [b"{", b"[1]", b"NaN", b"\xff", b'{"threshold": NaN}', b"[" * 9000])
def test_damaged_settings_are_refused(content):
    with pytest.raises(ValueError, match=r"^out/detect.json .*: go\.$") as refused:
        parsed_settings(content, "out/detect.json", "go")
    assert len(str(refused.value).splitlines()) == 1


def test_damaged_settings_are_named(run, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run()
    run("day", "--engine", "ray", output="parts")
    for file, words in (("out/detect.json", []), ("parts/_detect.json", ["--engine", "ray"])):
        Path(file).write_text("[1]")
        run("day", *words, output=file.partition("/")[0], status=1)
        error = capsys.readouterr().err
        assert file in error and "--overwrite" in error and len(error.splitlines()) == 1


def test_damaged_parts_are_named_and_the_two_kinds_of_results_stay_apart(run, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    words = ["day", "--engine", "ray", "--quiet"]
    run(*words, output="parts")
    [part] = Path("parts").glob("part-*")
    whole = part.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"PAR1" + bytes(50) + b"PAR1"):
        part.write_bytes(content)
        run(*words, output="parts", status=1)
        error = capsys.readouterr().err
        assert str(part) in error and "scored again" in error and len(error.splitlines()) == 1
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"path": ["a.png"], "score": ["high"]}), part)
    run(*words, output="parts", status=1)
    assert str(part) in capsys.readouterr().err
    part.write_bytes(whole)
    run(output="parts", status=1)
    assert "Parquet parts" in capsys.readouterr().err
    run(output="lines")
    run(*words, output="lines", status=1)
    assert "results.jsonl" in capsys.readouterr().err
    assert main(["report", "parts"]) == 1
    assert "parts holds Parquet parts" in capsys.readouterr().err


def test_formats_of_an_earlier_call_are_of_all_rows(run):
    run("day/0.png", "--format", "csv", "coco")
    run("day")
    assert len(Path("out/results.csv").read_text().splitlines()) == 4
    assert len(json.loads(Path("out/coco.json").read_text())["images"]) == 3
    assert not Path("out/results.parquet").exists()


def test_a_share_without_locks_is_named_with_what_to_do(run, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        run(status=1)
    error = capsys.readouterr().err
    assert "out/.lock cannot be locked" in error and len(error.splitlines()) == 1
    Path("out/.lock").touch()  # as a killed process leaves it
    assert len(run()) == 3


def test_cells_that_a_spreadsheet_would_run(run, photos):
    names = ["=1+1.png", "+1.png", "-1.png", "@x.png", "\t=1.png", "'=1.png", "plain.png", "'s.png"]
    for name in names:
        shutil.copy(photos["bad"][0], name)
    rows = run("*.png", "--format", "csv")
    import pandas as pd

    found = pd.read_csv("out/results.csv")
    assert [row["path"] for row in rows] == sorted(names)
    assert not any(str(path)[0] in "=+-@\t\r" for path in found["path"])
    assert [from_csv_cell(path) for path in found["path"]] == sorted(names)
    assert found["score"].tolist() == pytest.approx([row["score"] for row in rows])
    assert [csv_cell(value) for value in (-1.5, None, "a=b")] == [-1.5, None, "a=b"]


@pytest.mark.parametrize("where", ["reading", "scoring", "drawing"])
def test_a_photo_that_is_too_large_for_the_memory_ends_only_itself(run, where, monkeypatch):
    def starved(*_, **__):
        raise MemoryError

    if where == "reading":
        read = sources.ImageReader.load
        monkeypatch.setattr(
            sources.ImageReader,
            "load",
            lambda self, source, view: starved() if "1.png" in str(source) else read(self, source, view),
        )
    elif where == "scoring":
        score = executor.AnomalyScorer.score_images

        def some(self, batch, on_error=None):
            if any("1.png" in image.name for image, _ in batch):
                raise RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory")
            yield from score(self, batch, on_error)

        monkeypatch.setattr(executor.AnomalyScorer, "score_images", some)
    else:
        from adaptclip_hf.engine.result import DetectionResult

        draw = DetectionResult.heatmap
        monkeypatch.setattr(
            DetectionResult, "heatmap", lambda self, *image: starved() if "1.png" in self.name else draw(self, *image)
        )
    rows = run("day", "--batch-size", "3", status=1)
    assert [row["error"] is None for row in rows] == [True, False, True]
    assert "too large for the memory" in rows[1]["error"] and rows[1]["heatmap"] is None
    assert not list(Path("out/heatmaps").glob(".unfinished*"))


def test_tables_hold_the_margin_and_the_profile_and_older_ones_lack_them(tmp_path):
    row = dict.fromkeys(LATER) | ROW | {"margin": 1.25, "profile": "ab" * 32}
    table = table_of([row], part_schema(maps=False))
    [again] = rows_of(table)
    assert (again["margin"], again["profile"]) == (1.25, "ab" * 32)
    older = table.drop_columns(list(LATER))
    require_part(older.schema)
    [again] = rows_of(older)
    assert again["margin"] is None and again["profile"] is None and again["score"] == row["score"]
