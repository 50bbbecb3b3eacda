"""The command line as users call it."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from adaptclip_hf import AdaptCLIPModel
from adaptclip_hf.cli import main
from adaptclip_hf.image_files import find_images, unique_names


def lines(output):
    return [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]


def test_detect_writes_results_and_heatmaps(small_folder, photos, tmp_path, capsys):
    output = tmp_path / "out"
    call = ["detect", *photos["good"], *photos["bad"], "--model", str(small_folder), "--normal", *photos["normal"]]
    assert main([*call, "--threshold", "0.2", "--batch-size", "2", "--output", str(output)]) == 0
    results = lines(output)
    assert [result["path"] for result in results] == photos["good"] + photos["bad"]
    for result in results:
        assert 0 <= result["score"] <= 1 and result["label"] in ("normal", "anomalous")
        assert Image.open(result["heatmap"]).size == (170, 150)
        assert (output / "heatmaps").samefile(result["heatmap"].rsplit("/", 1)[0])
    printed = capsys.readouterr().out
    assert "5 images" in printed and "results.jsonl" in printed


def test_bank_saved_and_used_again(small_folder, photos, tmp_path):
    bank, model = str(tmp_path / "ring.safetensors"), ["--model", str(small_folder), "--quiet", "--no-heatmaps"]
    one, two = tmp_path / "one", tmp_path / "two"
    call = ["detect", photos["bad"][0], *model, "--normal", *photos["normal"], "--save-prompt-bank", bank]
    assert main([*call, "--output", str(one)]) == 0
    assert main(["detect", photos["bad"][0], *model, "--prompt-bank", bank, "--output", str(two)]) == 0
    assert lines(one)[0]["score"] == lines(two)[0]["score"]
    assert lines(one)[0]["heatmap"] is None and not (one / "heatmaps").exists()


def test_a_broken_file_is_reported_and_the_run_goes_on(small_folder, photos, tmp_path, capsys):
    folder, output = tmp_path / "line", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    Image.open(photos["good"][0]).save(folder / "a.png")
    (folder / "b.png").write_text("no image")
    Image.open(photos["bad"][0]).save(folder / "deep" / "c.jpg")
    (folder / "notes.txt").write_text("not looked at")
    assert main(["detect", str(folder), "--model", str(small_folder), "--output", str(output)]) == 1
    assert [result["path"] for result in lines(output)] == [str(folder / "a.png"), str(folder / "deep" / "c.jpg")]
    assert str(folder / "b.png") in capsys.readouterr().out


def test_results_are_flushed_as_they_come(small_folder, photos, tmp_path, monkeypatch):
    from adaptclip_hf import detection

    seen, original = [], detection.load_image

    def watch(path):
        file = tmp_path / "results.jsonl"
        seen.append(len(file.read_text().splitlines()) if file.exists() else 0)
        return original(path)

    monkeypatch.setattr(detection, "load_image", watch)
    call = ["detect", *photos["bad"], "--model", str(small_folder), "--quiet", "--output", str(tmp_path)]
    assert main(call) == 0
    assert seen == sorted(seen) and seen[-1] > 0


def test_finding_images(photos, tmp_path):
    for name in ("b.png", "a.jpg", "sub/a.jpg", "x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["a.jpg", "b.png", "sub/a.jpg"]
    assert [path.name for path in find_images([f"{tmp_path}/*.png", f"{tmp_path}/b.png"])] == ["b.png"]
    names = unique_names(find_images([tmp_path]))
    assert len(set(names)) == 3 and not any("/" in name for name in names)


def test_convert_then_detect(case, photos, tmp_path):
    from test_reference import convert_case

    model = convert_case(case, tmp_path / "model")
    assert AdaptCLIPModel.from_pretrained(model).config.image_size == case["settings"]["img"]
    assert sorted(path.name for path in model.iterdir()) == [
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    call = ["detect", photos["bad"][0], "--model", str(model), "--normal", *photos["normal"], "--quiet"]
    assert main([*call, "--output", str(tmp_path / "out")]) == 0


@pytest.mark.parametrize("command", ["", "detect", "convert"])
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0 and "adaptclip" in printed
    assert not command or "examples:" in printed


def test_the_installed_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "adaptclip_hf.cli", "detect", "nothing.png", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "No such image file: nothing.png" in done.stderr + done.stdout
