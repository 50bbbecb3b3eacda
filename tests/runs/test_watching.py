"""Images that come one after the other: each once, whole, whatever stops the program."""

import json
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import CLI, Command, start_python
from PIL import Image
from small_profiles import fit_small_profile

from adaptclip_hf import InspectionProfile, image_files
from adaptclip_hf.cli import main
from adaptclip_hf.passed_over import PassedOver
from adaptclip_hf.runs import watching
from adaptclip_hf.synthetic import make_category, render_sample


@pytest.fixture(scope="module")
def ring(small_folder, tmp_path_factory) -> Path:
    """A profile of twelve good photos."""
    folder, category = tmp_path_factory.mktemp("ring"), make_category(5, "metal ring")
    (folder / "good").mkdir()
    for index in range(12):
        Image.fromarray(render_sample(category, index, 60, defect=False)[0]).save(folder / "good" / f"{index}.png")
    fit_small_profile(folder / "good", small_folder, 0.1, folder / "profile")
    return folder


def start(ring: Path, line: Path, output: Path, *words) -> Command:
    command = [*CLI, "detect", line, "--watch", "--profile", ring / "profile", "--output", output, *words]
    with output.with_suffix(".log").open("a") as log:
        return start_python(*command, stdout=log, stderr=log)


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
    told = output.with_suffix(".log").read_text()
    assert status == 0 and "could not be read" not in told  # what could not at first could later
    assert "started again, it goes on" in told
    found = {Path(each["path"]).name: each for each in lines(output)}
    assert set(found) == {"first.png", "second.png", "slow.png", "broken.png", "out.png"} and len(lines(output)) == 5
    assert found["first.png"]["among_normals"] and found["slow.png"]["score"] == found["broken.png"]["score"]


class Until(PassedOver):
    """Ends a watch that runs in a thread."""

    ended = False

    def tell(self):
        if self.ended:
            raise EOFError


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """`tmp_path / "line"`, watched in a thread: what it gives, what it tells, and which paths it asked about."""
    for name, value in (("SETTLED", 0.05), ("WAKE_AFTER", 20), ("LOOK_AGAIN", 0.2), ("LOOK_WITHOUT_EVENTS", 0.05)):
        monkeypatch.setattr(watching, name, value)
    (tmp_path / "line").mkdir()
    until, given, told, asked, threads = Until(), [], [], [], []

    def known(path: Path) -> bool:
        asked.append(path)
        return path.exists() and (str(path), path.stat().st_mtime_ns) in given

    def run():
        with suppress(EOFError):
            for group in watching.FolderWatch(tmp_path / "line", known, None, until, told.append).complete_images():
                given.extend((str(path), path.stat().st_mtime_ns) for path in group)

    def begin():
        threads.append(threading.Thread(target=run, daemon=True))
        threads[0].start()

    yield SimpleNamespace(
        folder=tmp_path / "line",
        begin=begin,
        given=given,
        told=told,
        asked=asked,
        names=lambda: sorted(Path(path).name for path, _ in given),
        is_running=lambda: threads[0].is_alive(),
    )
    until.ended = True
    threads[0].join(10)


def test_a_share_that_is_away_for_a_while(watched):
    photo(0).save(watched.folder / "a.png")
    watched.begin()
    wait_for(lambda: watched.names() == ["a.png"], 10)
    watched.folder.rename(watched.folder.with_name("away"))
    wait_for(lambda: watched.told, 10)
    photo(1).save(watched.folder.with_name("away") / "b.png")
    watched.folder.with_name("away").rename(watched.folder)
    wait_for(lambda: watched.names() == ["a.png", "b.png"], 10)
    photo(2).save(watched.folder / "c.png")
    wait_for(lambda: watched.names() == ["a.png", "b.png", "c.png"], 10)
    assert [line.split(" is ")[1].split(" ")[0] for line in watched.told] == ["away", "back"]
    # another share in its place
    watched.folder.rename(watched.folder.with_name("old"))
    watched.folder.mkdir()
    photo(3).save(watched.folder / "d.png")
    wait_for(lambda: watched.names() == ["a.png", "b.png", "c.png", "d.png"], 10)


def test_links_names_and_folders_that_end_no_watch(watched, monkeypatch):
    for name in ("x", "y"):
        (watched.folder / name).mkdir()
        photo(0).save(watched.folder / name / f"{name}.png")
    scandir, vanished = os.scandir, []

    def vanishing(folder):
        if str(folder).endswith("/x") and not vanished:
            vanished.append(folder)
            shutil.rmtree(folder)
        return scandir(folder)

    monkeypatch.setattr(image_files.os, "scandir", vanishing)
    watched.begin()
    wait_for(lambda: watched.names() == ["y.png"], 10)
    (watched.folder / "circle").symlink_to(watched.folder)
    (watched.folder / "loop").symlink_to("loop")
    (watched.folder / "loop.png").symlink_to("loop.png")
    Path(os.fsdecode(os.fsencode(watched.folder) + b"/\xff.txt")).write_bytes(b"no text")
    (watched.folder / "x").mkdir()
    photo(1).save(watched.folder / "x" / "again.png")
    wait_for(lambda: watched.names() == ["again.png", "y.png"], 10)
    shutil.rmtree(watched.folder / "x")
    photo(2).save(watched.folder / "y" / "last.png")
    wait_for(lambda: watched.names() == ["again.png", "last.png", "y.png"], 10)
    # a number that comes again, as cameras have it, and a photo that was sent again
    (watched.folder / "y" / "y.png").unlink()
    time.sleep(0.1)
    photo(3).save(watched.folder / "y" / "y.png")
    photo(4).save(watched.folder / "y" / "last.png")
    wait_for(lambda: watched.names() == ["again.png", *["last.png"] * 2, *["y.png"] * 2], 10)
    assert watched.is_running()


def test_without_events_the_folder_is_looked_at(watched, monkeypatch):
    import watchfiles

    def used_up(*paths, **options):
        raise OSError(24, "Too many open files (os error 24)")
        yield

    monkeypatch.setattr(watchfiles, "watch", used_up)
    watched.begin()
    (watched.folder / "sub").mkdir()
    photo(0).save(watched.folder / "sub" / "a.png")
    wait_for(lambda: watched.names() == ["a.png"], 10)
    assert len(watched.told) == 1 and "no events" in watched.told[0] and "Too many open files" in watched.told[0]
    time.sleep(0.3)
    photo(1).save(watched.folder / "sub" / "a.png")  # its folder's time stays
    wait_for(lambda: watched.names() == ["a.png"] * 2, 10)


def test_a_new_photo_among_many_costs_no_look_at_the_others(watched, monkeypatch):
    monkeypatch.setattr(watching, "SHARE", 0.0)  # the slow look at everything in turn
    monkeypatch.setattr(watching, "LONGEST_REST", 0.0)
    image_files.image_suffixes()
    photo(0).save(watched.folder / "first.png")
    for index in range(300):
        os.link(watched.folder / "first.png", watched.folder / f"{index}.png")
    watched.begin()
    wait_for(lambda: len(watched.given) == 301, 10)
    time.sleep(0.5)
    asked = len(watched.asked)
    photo(1).save(watched.folder / "new.png")
    wait_for(lambda: len(watched.given) == 302, 10)
    assert len(watched.asked) - asked < 10


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
    calibration = replace(profile.calibration, threshold=1.0)
    lenient = replace(profile, calibration=calibration, inspectable=None)  # calls everything good
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
        int(os.environ.get(f"ADAPTCLIP_{name}", default)) for name, default in (("EVENTS", 500), ("KILLS", 3))
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
