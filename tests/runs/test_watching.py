"""Images that come one after the other: each once, whole, whatever stops the program."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptclip_hf import InspectionProfile
from adaptclip_hf.cli import main
from adaptclip_hf.synthetic import make_category, render_sample


@pytest.fixture(scope="module")
def ring(small_folder, tmp_path_factory) -> Path:
    """A profile of twelve good photos."""
    folder, category = tmp_path_factory.mktemp("ring"), make_category(5, "metal ring")
    (folder / "good").mkdir()
    for index in range(12):
        Image.fromarray(render_sample(category, index, 60, defect=False)[0]).save(folder / "good" / f"{index}.png")
    call = ["fit", "--normal", str(folder / "good"), "--false-alarm-rate", "0.1", "--model", str(small_folder)]
    assert main([*call, "--output", str(folder / "profile"), "--quiet"]) == 0
    return folder


def start(ring: Path, line: Path, output: Path, *words) -> subprocess.Popen:
    command = [sys.executable, "-m", "adaptclip_hf.cli", "detect", line, "--watch", "--profile", ring / "profile"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with output.with_suffix(".log").open("a") as log:
        return subprocess.Popen(
            [*map(str, command), "--output", str(output), *words],
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=hear_interrupts,
        )


def hear_interrupts():
    """What a shell runs in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def lines(output: Path) -> list[dict]:
    """Whole lines that are there."""
    file = output / "results.jsonl"
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]] if file.exists() else []


def wait_for(condition, seconds: float = 60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def photo(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8))


@pytest.mark.slow
def test_files_are_scored_when_they_are_whole(ring, tmp_path):
    line, output = tmp_path / "line", tmp_path / "out"
    (line / "below").mkdir(parents=True)
    shutil.copy(ring / "good" / "3.png", line / "first.png")
    process = start(ring, line, output, "--no-heatmaps")
    try:
        wait_for(lambda: len(lines(output)) == 1)
        shutil.copy(ring / "good" / "4.png", line / "below" / "second.png")
        (line / "notes.txt").write_text("no image")
        (line / ".hidden.png").write_bytes(b"half of it")
        photo(0).save(tmp_path / "slow.png")
        content = (tmp_path / "slow.png").read_bytes()
        with (line / "slow.png").open("wb") as opened:  # a camera that takes its time
            for begin in range(0, len(content), len(content) // 8):
                opened.write(content[begin : begin + len(content) // 8])
                opened.flush()
                time.sleep(0.2)
        wait_for(lambda: len(lines(output)) == 3)
        (line / "broken.png").write_bytes(content[:100])
        wait_for(lambda: len(lines(output)) == 4)
        (line / "broken.png").write_bytes(content)  # sent again
        wait_for(lambda: not any(each["error"] for each in lines(output)))
        photo(1).save(line / "out.png")
        wait_for(lambda: len(lines(output)) == 5)
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=30)
    assert status == 1  # one could not be read at first
    assert "started again, it goes on" in output.with_suffix(".log").read_text()
    found = {Path(each["path"]).name: each for each in lines(output)}
    assert set(found) == {"first.png", "second.png", "slow.png", "broken.png", "out.png"} and len(lines(output)) == 5
    assert found["first.png"]["among_normals"] and found["slow.png"]["score"] == found["broken.png"]["score"]


def test_no_folder_to_watch(ring, tmp_path, capsys):
    call = ["detect", str(tmp_path / "nowhere"), "--watch", "--profile", str(ring / "profile")]
    assert main([*call, "--output", str(tmp_path / "out")]) == 1
    assert "No folder" in capsys.readouterr().err


@pytest.mark.parametrize("light", [1.0, 0.3])
def test_drift_is_noted(light, ring, tmp_path, capsys):
    line, category = tmp_path / "line", make_category(5, "metal ring")
    line.mkdir()
    for index in range(60):
        image = Image.fromarray(render_sample(category, 100 + index, 60, defect=False)[0])
        image.point(lambda value: value * light).save(line / f"{index:02}.png")
    profile = InspectionProfile.from_pretrained(ring / "profile")
    lenient = replace(profile, calibration=replace(profile.calibration, threshold=1.0))  # calls everything good
    folder = lenient.save_pretrained(tmp_path / "lenient")
    call = ["detect", str(line), "--profile", str(folder), "--no-heatmaps", "--output", str(tmp_path / "out")]
    assert main(call) == 0
    file = tmp_path / "out" / "drift.jsonl"
    printed = capsys.readouterr().out
    if light == 1:
        assert not file.exists() and "DRIFT" not in printed
    else:
        [noted] = map(json.loads, file.read_text().splitlines())
        assert noted["photos"] == 50 and noted["p_value"] < 0.001 and noted["last"] == str(line / "49.png")
        assert "DRIFT" in printed and main(["report", str(tmp_path / "out")]) == 0
        assert "The photos have changed" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_each_photo_once_whatever_kills_it(ring, tmp_path):
    """Photos come, at times many at once, while the process is killed and started again.

    ADAPTCLIP_EVENTS and ADAPTCLIP_KILLS set how many; 10,000 and 20 take about six minutes.
    """
    events, kills = (
        int(os.environ.get(f"ADAPTCLIP_{name}", default)) for name, default in (("EVENTS", 1500), ("KILLS", 5))
    )
    line, output, chance = tmp_path / "line", tmp_path / "out", random.Random(0)
    line.mkdir()
    process, written = None, 0
    for kill in range(kills + 1):
        process = start(ring, line, output, "--no-heatmaps", "--quiet")
        target = events * (kill + 1) // (kills + 1)
        while written < target:
            for _ in range(min(chance.choice((1, 1, 5, 40)), target - written)):
                photo(written).save(line / f"{written:05}.png", compress_level=1)
                written += 1
            time.sleep(chance.uniform(0, 0.02))
        if kill < kills:
            time.sleep(chance.uniform(0, 6))  # at times before it has begun
            process.kill()
            process.wait()
    wait_for(lambda: len(lines(output)) >= events, 600)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0
    counted = Counter(each["path"] for each in lines(output))
    assert counted == {str(line / f"{index:05}.png"): 1 for index in range(events)}
    assert all(each["score"] is not None and each["p_value"] is not None for each in lines(output))
