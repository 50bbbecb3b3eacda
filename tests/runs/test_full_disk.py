"""A disk that is full, as a limit of files' sizes: one line names the file, nothing is half written, all goes on."""

import json
import resource
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from adaptclip_hf.cli import main
from adaptclip_hf.files import append, whole_file, write_array, write_csv, write_json
from adaptclip_hf.synthetic import write_dataset


@contextmanager
def room(size: int):
    """No file may become larger than so many bytes; what would, gets EFBIG, as it gets ENOSPC on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fails(size: int, words: list, named: str, capsys):
    """A command says in one line which file there is no room for."""
    with room(size):
        assert main([str(word) for word in words]) == 1
    error = capsys.readouterr().err
    assert named in error and "File too large" in error and len(error.strip().splitlines()) == 1, error


def test_files_appear_whole_or_not_at_all(tmp_path):
    file = tmp_path / "file"

    def array():
        with whole_file(file) as opened:
            write_array(opened, np.zeros((40, 40), np.float32))

    for write in (
        lambda: write_json(file, list(range(1000))),
        lambda: write_csv(file, ("number",), [[number] for number in range(1000)]),
        array,
    ):
        with room(1000), pytest.raises(OSError, match="File too large") as refused:
            write()
        assert refused.value.filename == str(file) and not list(tmp_path.iterdir())
    write_json(file, 1)
    with room(1000), pytest.raises(OSError, match="File too large") as refused:
        append(file, bytes(2000))
    assert refused.value.filename == str(file) and file.read_text() == "1\n"
    array()
    assert np.load(file).shape == (40, 40)


def test_a_run_names_the_file_and_goes_on_where_it_was(small_folder, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("day").mkdir()
    for index in range(12):
        shutil.copy(photos["bad"][index % 3], f"day/{index:02}.png")
    words = ["detect", "day", "--model", small_folder, "--device", "cpu", "--output", "out", "--quiet"]
    fails(20, words, "out/detect.json", capsys)
    fails(8000, words, "out/heatmaps/00.png", capsys)
    words.append("--no-heatmaps")
    words[words.index("out")] = "lines"
    fails(2200, words, "lines/", capsys)
    there = Path("lines/results.jsonl").read_text()
    assert there.endswith("\n") and 0 < len(there.splitlines()) < 12
    fails(2600, [*words[:1], "day/00.png", *words[2:], "--format", "parquet"], "lines/results.parquet", capsys)
    assert main([str(word) for word in words]) == 0
    whole = Path("lines/results.jsonl").read_text()
    assert whole.startswith(there) and len({json.loads(line)["path"] for line in whole.splitlines()}) == 12
    left = [file for folder in ("out", "lines") for file in Path(folder).rglob("*") if "tmp" in file.name]
    assert not left and not list(Path("out").rglob(".unfinished*"))


@pytest.mark.slow
def test_a_profile_and_an_evaluation_name_the_file_and_are_made_afterwards(small_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("adaptclip_hf.evaluation.evaluate.draw_curves", lambda *_: False)
    write_dataset(Path("products"), 1, size=60, train=4, good=2, bad=2)
    common = ["--model", small_folder, "--device", "cpu", "--quiet"]
    [good] = Path("products").glob("*/train/good")
    fit = ["fit", "--no-verdict", "--normal", good, *common, "--false-alarm-rate", "0.25", "--output", "profile"]
    fails(1000, fit, "profile/", capsys)
    assert not Path("profile").exists() or not list(Path("profile").iterdir())
    assert main([str(word) for word in fit]) == 0
    evaluate = ["evaluate", "--data", "products", "--shots", "0", *common, "--output", "figures", "--save-maps"]
    fails(20, evaluate, "figures/progress/settings.json", capsys)
    fails(5000, evaluate, "figures/maps/0-shot_seed-10/products", capsys)
    assert not list(Path("figures").rglob("*.tmp")) and not Path("figures/results.json").exists()
    assert main([str(word) for word in evaluate]) == 0 and Path("figures/results.json").is_file()
