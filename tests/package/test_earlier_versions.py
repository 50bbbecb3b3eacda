"""What an earlier version wrote opens, and half-finished results go on; `tests/fixtures/make.py` made it."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from adaptclip_hf import AdaptCLIPModel, AnomalyDetector, InspectionProfile, PromptBank
from adaptclip_hf.cli import main

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
MODIFIED = 1_700_000_000  # of each image, which results record
IMAGES = ["images/a/0.png", "images/a/1.png", "images/b/0.png", "images/broken.png", "images/teil ü.png"]
CALL = ["detect", "images", "--profile", "profile", "--save-maps", "--device", "cpu", "--quiet"]


@pytest.fixture(params=["v0_2"])
def earlier(request, tmp_path, monkeypatch) -> str:
    """The current folder, in which all that the version wrote lies."""
    shutil.copytree(FIXTURES / request.param, tmp_path, dirs_exist_ok=True)
    for path in IMAGES:
        os.utime(tmp_path / path, (MODIFIED, MODIFIED))
    monkeypatch.chdir(tmp_path)
    return request.param


def lines(output: str) -> list[dict]:
    return [json.loads(line) for line in Path(output, "results.jsonl").read_text().splitlines()]


def rows(output: str) -> list[dict]:
    parts = [parquet.read_table(file).to_pylist() for file in Path(output).glob("part-*")]
    return sorted((row for part in parts for row in part), key=lambda row: row["path"])


def test_model_bank_profile_and_export_open(earlier):
    model = AdaptCLIPModel.from_pretrained("model")
    assert model.config.image_size == 56
    bank, profile = PromptBank.from_pretrained("bank.safetensors"), InspectionProfile.from_pretrained("profile")
    detector = AnomalyDetector.from_pretrained("model", device="cpu")
    [by_bank] = detector.detect("images/a/0.png", prompt_bank=bank)
    [by_profile] = detector.detect("images/a/0.png", profile=profile)
    assert by_bank.score == pytest.approx(by_profile.score, abs=1e-3)  # a profile's features are float16
    pytest.importorskip("onnxruntime")
    [exported] = AnomalyDetector.from_pretrained("export", device="cpu").detect("images/a/0.png", prompt_bank=bank)
    assert exported.score == pytest.approx(by_bank.score, abs=1e-4)


def test_a_folder_of_lines_goes_on(earlier):
    before = Path("detect/results.jsonl").read_bytes()
    whole = before[: before.rindex(b"\n") + 1]
    assert main([*CALL, "--output", "detect"]) == 1  # one image is broken
    assert Path("detect/results.jsonl").read_bytes().startswith(whole)
    found = {line["path"]: line for line in lines("detect")}
    assert sorted(found) == IMAGES and len(lines("detect")) == 5
    assert main([*CALL, "--output", "anew"]) == 1
    for expected in lines("anew"):
        line = found[expected["path"]]
        assert list(line) in (list(expected), [name for name in expected if name not in LATER])  # scored now, or then
        assert line["label"] == expected["label"]
        assert line["error"] == expected["error"] and line["modified"] == MODIFIED * 10**9
        if line["error"] is None:
            assert line["score"] == pytest.approx(expected["score"], abs=1e-5)
            assert np.load(line["map"]).shape == (40, 40) and Image.open(line["heatmap"]).size == (40, 40)
    assert not list(Path("detect/heatmaps").glob(".unfinished*"))


def test_parts_go_on(earlier, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where Ray is not installed
    parts = {file.name: file.read_bytes() for file in Path("bulk").glob("part-*")}
    assert main([*CALL, "--engine", "ray", "--output", "bulk"]) == 1
    found = rows("bulk")
    assert [row["path"] for row in found] == IMAGES
    assert Counter(row["error"] is None for row in found) == {True: 4, False: 1}
    assert all(Path("bulk", name).read_bytes() == content for name, content in parts.items())
    assert not Path("bulk/_plan").exists()
    assert main([*CALL, "--engine", "ray", "--output", "anew"]) == 1
    for row, expected in zip(found, rows("anew"), strict=True):
        assert row["label"] == expected["label"] and row["score"] == pytest.approx(expected["score"], abs=1e-5)


@pytest.mark.parametrize("words", [["--output", "detect"], ["--engine", "ray", "--output", "bulk"]])
def test_other_settings_are_still_refused(earlier, words, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    call = [word for word in CALL if word != "--save-maps"]
    assert main([*call, *words]) == 1
    assert "differs in maps" in capsys.readouterr().err
