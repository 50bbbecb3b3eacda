"""The command line as users call it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import CLI, run_python, start_python
from PIL import Image
from reference_cases import convert_case

from adaptclip_hf import AdaptCLIPModel
from adaptclip_hf.cli import main
from adaptclip_hf.files import file_name, new_name
from adaptclip_hf.image_files import find_images


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


def copies(photos, folder, count: int) -> Path:
    """A folder with so many photos."""
    folder.mkdir()
    for index in range(count):
        source = Path([*photos["good"], *photos["bad"]][index % 5])
        (folder / f"{index:03}.png").write_bytes(source.read_bytes())
    return folder


def test_a_second_call_goes_on_and_scores_nothing_twice(small_folder, photos, tmp_path, monkeypatch, capsys):
    from adaptclip_hf.engine import scoring

    line, output = copies(photos, tmp_path / "line", 5), tmp_path / "out"
    call = ["detect", str(line), "--model", str(small_folder), "--output", str(output), "--save-maps"]
    encode, encoded = scoring.encode, []
    monkeypatch.setattr(scoring, "encode", lambda model, pixels: encoded.append(1) or encode(model, pixels))
    assert main(call) == 0 and len(encoded) == 5
    before = (output / "results.jsonl").read_bytes()
    assert main(call) == 0 and len(encoded) == 5 and (output / "results.jsonl").read_bytes() == before
    assert "5 scored before" in capsys.readouterr().out
    # one more, and one that has changed
    (line / "new.png").write_bytes((line / "000.png").read_bytes())
    Image.new("RGB", (60, 40), "red").save(line / "001.png")
    assert main(call) == 0 and len(encoded) == 7
    assert "1 files have changed" in capsys.readouterr().out
    found = lines(output)
    assert sorted(each["path"] for each in found) == sorted(map(str, line.iterdir()))
    assert [np.load(each["map"]).shape for each in found if each["path"].endswith("001.png")] == [(40, 60)]
    # the changed file's old pictures are gone
    assert {Path(each["heatmap"]) for each in found} == set((output / "heatmaps").iterdir())
    # a line that was cut off
    (output / "results.jsonl").write_bytes((output / "results.jsonl").read_bytes()[:-20])
    assert main(call) == 0 and len(encoded) == 8
    assert sorted(each["path"] for each in lines(output)) == sorted(map(str, line.iterdir()))


def test_names_in_other_scripts_and_in_no_encoding(small_folder, photos, tmp_path, capsys):
    content = Path(photos["bad"][0]).read_bytes()
    line, output = tmp_path / "検査 line", tmp_path / "aus gabe"
    line.mkdir()
    for name in (b"pr\xc3\xbcfling.png", b"\xff\xfe.png", b"a\nb.png", "検査.PNG".encode()):
        Path(os.fsdecode(os.fsencode(line) + b"/" + name)).write_bytes(content)
    Path(os.fsdecode(os.fsencode(line) + b"/\xfd.png")).write_text("broken")
    for _ in range(2):
        assert main(["detect", str(line), "--model", str(small_folder), "--output", str(output)]) == 1
        found = lines(output)
        assert sorted(each["path"] for each in found) == sorted(map(str, line.iterdir()))
    assert len({each["score"] for each in found} - {None}) == 1
    assert len(list((output / "heatmaps").iterdir())) == 4
    assert "1 file could not be read" in capsys.readouterr().out


def test_other_arguments_are_refused_by_name_and_the_old_results_stay(small_folder, photos, tmp_path, capsys):
    output = tmp_path / "out"
    call = ["detect", *photos["good"], "--model", str(small_folder), "--output", str(output)]
    assert main(call) == 0
    before = (output / "results.jsonl").read_bytes()
    for more, name in (
        (["--normal", *photos["normal"]], "normal_images"),
        (["--threshold", "0.3"], "threshold"),
        (["--object-name", "ring"], "object_name"),
        (["--no-heatmaps"], "heatmaps"),
    ):
        assert main([*call, *more]) == 1
        message = capsys.readouterr().err
        assert f"differs in {name}" in message and "--overwrite" in message
        assert (output / "results.jsonl").read_bytes() == before
    assert main([*call, "--threshold", "0.3", "--overwrite"]) == 0
    assert all(each["label"] for each in lines(output)) and len(lines(output)) == 2
    # lines of another program are not touched
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.jsonl").write_text("{}\n")
    assert main([*call[:-1], str(tmp_path / "other")]) == 1
    assert (tmp_path / "other" / "results.jsonl").read_text() == "{}\n"


def test_its_own_heatmaps_are_no_input(small_folder, photos, tmp_path, monkeypatch):
    copies(photos, tmp_path / "line", 3)
    monkeypatch.chdir(tmp_path / "line")
    for _ in range(2):
        assert main(["detect", ".", "--model", str(small_folder), "--quiet"]) == 0
        assert sorted(each["path"] for each in lines(Path("adaptclip-output"))) == ["000.png", "001.png", "002.png"]


def test_broken_normal_images_and_normal_images_among_the_queries_are_said(small_folder, photos, tmp_path, capsys):
    (tmp_path / "broken.png").write_text("no image")
    call = ["detect", photos["normal"][0], photos["bad"][0], "--model", str(small_folder)]
    call += ["--normal", *photos["normal"], str(tmp_path / "broken.png"), "--output", str(tmp_path / "out")]
    assert main(call) == 1
    printed = capsys.readouterr().out
    assert "not among the normal images" in printed and "broken.png" in printed
    assert f"{photos['normal'][0]} is itself among the normal images" in printed
    assert [each["among_normals"] for each in lines(tmp_path / "out")] == [True, False]


@pytest.mark.slow
def test_killed_at_any_moment_each_image_has_one_line(small_folder, photos, tmp_path):
    line, output, chance = copies(photos, tmp_path / "line", 60), tmp_path / "out", random.Random(0)
    command = [*CLI, "detect", line, "--model", small_folder, "--output", output, "--quiet", "--device", "cpu"]
    for share in (5, 25, 45):
        process = start_python(*command)
        while process.poll() is None and (not (file := output / "results.jsonl").exists()
                                          or file.read_bytes().count(b"\n") < share):  # fmt: skip
            time.sleep(chance.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run_python(*command).returncode == 0
    found = lines(output)
    assert sorted(each["path"] for each in found) == sorted(map(str, line.iterdir()))
    assert len({each["heatmap"] for each in found}) == 60 and all(Path(each["heatmap"]).is_file() for each in found)
    assert {Path(each["heatmap"]) for each in found} == set((output / "heatmaps").iterdir())


def test_exit_statuses_tell_what_happened(small_folder, photos, tmp_path, monkeypatch, capsys):
    def status(name: str, *words: str) -> int:
        return main(["detect", *words, "--model", str(small_folder), "--quiet", "--output", str(tmp_path / name)])

    assert status("anomalies", *photos["bad"], "--threshold", "0") == 0
    assert status("broken", photos["bad"][0], str(tmp_path / "missing.png")) == 1
    with pytest.raises(SystemExit) as stop:
        status("wrong", photos["bad"][0], "--threshold", "7")
    assert stop.value.code == 2

    def interrupt(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("adaptclip_hf.engine.images.load_image", interrupt)
    assert status("stopped", photos["bad"][0]) == 130


def test_help_is_quick(tmp_path):
    code = """
import sys
sys.argv = ["/usr/bin/adaptclip", *sys.argv[1:]]
from adaptclip_hf.cli import main
try:
    main()
except SystemExit as stop:
    assert stop.code == 0
assert not {"torch", "transformers", "PIL", "datasets"} & sys.modules.keys()
"""
    for words in (["--help"], ["detect", "--help"], ["push", "--help"], ["convert", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_threads_of_a_command_wait_politely_unless_the_user_says_otherwise():
    code = """
import os, sys
sys.argv = ["adaptclip"]
import adaptclip_hf.cli
assert "torch" not in sys.modules  # which reads it
print(*(os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")))
"""
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    for given, expected in (
        ({}, "active 10000 1"),
        ({"OMP_WAIT_POLICY": "passive"}, "passive None None"),
        ({"GOMP_SPINCOUNT": "7"}, "active 7 1"),
    ):
        call = [sys.executable, "-c", code]
        assert subprocess.check_output(call, text=True, env=environment | given).strip() == expected


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
    found = {result["path"]: result for result in lines(output)}
    assert list(found) == [str(folder / "a.png"), str(folder / "b.png"), str(folder / "deep" / "c.jpg")]
    broken = found.pop(str(folder / "b.png"))
    assert broken["score"] is None and "not an image format" in broken["error"]
    assert all(result["error"] is None and 0 <= result["score"] <= 1 for result in found.values())
    assert str(folder / "b.png") in capsys.readouterr().out


def test_results_are_flushed_as_they_come(small_folder, photos, tmp_path, monkeypatch):
    from adaptclip_hf.engine import scoring

    seen, original = [], scoring.encode

    def watch(model, pixel_values):
        file = tmp_path / "results.jsonl"
        seen.append(len(file.read_text().splitlines()) if file.exists() else 0)
        return original(model, pixel_values)

    monkeypatch.setattr(scoring, "encode", watch)
    call = ["detect", *photos["bad"], "--model", str(small_folder), "--quiet", "--output", str(tmp_path)]
    assert main(call) == 0
    # a row is written while the next image is encoded
    assert len(seen) == 3 and all(number - 1 <= rows <= number for number, rows in enumerate(seen))


def test_finding_images(tmp_path):
    names = ("b.png", "a.jpg", "sub/a.jpg", "x.txt", "._a.jpg", "data.h5", "film.mpg", ".hidden/c.png", "out/d.png")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path], leave_out=tmp_path / "out")]
    assert found == ["a.jpg", "b.png", "sub/a.jpg"]
    assert [path.name for path in find_images([f"{tmp_path}/*.png", f"{tmp_path}/b.png"])] == ["b.png"]
    # a file that is named is looked at whatever it is called
    assert [path.name for path in find_images([tmp_path / "data.h5"])] == ["data.h5"]


def test_names_of_outputs_stay_in_their_folder_and_apart():
    assert file_name("metal nut") == "metal nut" and file_name("Prüfling 検査") == "Prüfling 検査"
    for text in ("../../escaped", "a/b", ".hidden", "検" * 200, "nul\0", "", "...", "c:\\x"):
        name = file_name(text)
        assert name and "/" not in name and "\\" not in name and not name.startswith(".")
        assert len(name.encode()) <= 200
    assert file_name("a/b") != file_name("a:b") and file_name("検" * 200) != file_name("検" * 201)
    taken: set[str] = set()
    for path in ("a/1.png", "b/1.png", "b/1.jpg", "B/1.jpg"):
        taken.add(new_name(Path(path), taken).lower())
    assert len(taken) == 4


def test_convert_then_detect(case, photos, tmp_path):
    model = convert_case(case, tmp_path / "model")
    assert AdaptCLIPModel.from_pretrained(model).config.image_size == case["settings"]["img"]
    assert sorted(path.name for path in model.iterdir()) == [
        "SHA256SUMS",
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


@pytest.mark.slow
def test_the_installed_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "adaptclip_hf.cli", "detect", "nothing.png", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "No such image file: nothing.png" in done.stderr + done.stdout


def test_benchmark(small_folder, tmp_path, capsys):
    words = ["benchmark", "--table", "--model", str(small_folder), "--device", "cpu", "--runtimes", "torch"]
    words += ["--batches", "1", "2", "--normals", "1", "3", "--seconds", "0.01", "--output", str(tmp_path)]
    assert main(words) == 0
    results = json.loads((tmp_path / "benchmark.json").read_text())
    rows = [row for row in results["rows"] if row["dtype"] == "float32"]
    assert [(row["what"], row["batch"], row["normals"]) for row in rows] == [
        (what, batch, 0) for batch in (1, 2) for what in ("CLIP's own image tower", "encoder", "zero-shot")
    ] + [("few-shot", 1, 1), ("few-shot", 1, 3)]
    assert all(row["milliseconds"] > 0 and row["peak"] > 0 for row in rows)
    assert all((row["share"] is not None) == (row["what"] == "encoder") for row in rows)
    assert (tmp_path / "benchmark.md").read_text().count("\n| ") == len(results["rows"]) + 1


def test_benchmark_says_what_is_fastest_and_what_it_did_not_try(small_folder, photos, tmp_path, capsys, monkeypatch):
    from adaptclip_hf.runtimes.formats import EXPORT_FORMATS

    def missing(self, *libraries):
        raise ImportError(f"The format {self.name} needs {self.to_run[0]}: pip install 'adaptclip-hf[export]'")

    words = ["benchmark", "--model", str(small_folder), "--device", "cpu", "--budget", "1", "--output", str(tmp_path)]
    assert main([*words, "--images", *photos["good"]]) == 0
    found, lines = json.loads((tmp_path / "fastest.json").read_text()), capsys.readouterr().out.splitlines()
    assert found["left_out"]["OpenVINO float32"].startswith("its export takes about")
    assert found["left_out"]["OpenVINO int8"] == "it is calibrated with 8 photos (--images)"
    fastest = found["choices"][0]
    assert fastest["photos_per_second"] == max(each["photos_per_second"] for each in found["choices"])
    assert lines[-3].startswith(f"on this machine: {fastest['name']}, ") and lines[-2].endswith(found["commands"][-1])
    [exact] = [each for each in found["choices"] if each["name"] == "torch float32"]
    assert exact["score_difference"] == 0 and exact["flipped_pairs"] == 0
    monkeypatch.setattr("adaptclip_hf.runtimes.formats.Format.require", missing)
    assert main([*words, "--json"]) == 0
    left_out = json.loads(capsys.readouterr().out)["left_out"]
    assert len(EXPORT_FORMATS) == 3 and "pip install 'adaptclip-hf[export]'" in left_out["ONNX Runtime float32"]


def test_benchmark_leaves_out_what_takes_longer_than_its_budget(small_folder, capsys):
    words = ["benchmark", "--json", "--model", str(small_folder), "--device", "cpu"]
    assert main([*words, "--budget", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["runtime"] for each in found["choices"]} == {"torch"}
    assert "more than is left (--budget)" in found["left_out"]["OpenVINO float32"]
    assert "more than is left (--budget)" in found["left_out"]["ONNX Runtime float32"]


def test_benchmark_refuses_an_export(tmp_path, capsys):
    (tmp_path / "adaptclip_export.json").write_text("{}")
    assert main(["benchmark", "--model", str(tmp_path)]) == 1
    assert "is an export: name the model that it came from" in capsys.readouterr().err
