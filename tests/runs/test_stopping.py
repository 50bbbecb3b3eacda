"""A run that is asked to end keeps what it has done, in each format, and says by its status what happened."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from adaptclip_hf.cli import main
from adaptclip_hf.runs.executor import Here

FORMATS = ["--format", "csv", "parquet", "coco", "label-studio"]


@pytest.fixture
def words(small_folder, photos, tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("line").mkdir()
    for photo in photos["bad"]:
        shutil.copy(photo, "line")
    return ["detect", "line", "--model", str(small_folder), "--device", "cpu", "--output", "out", "--quiet"]


def images_in(name: str) -> int:
    content = Path("out", name).read_text()
    return len(json.loads(content)["images"]) if name.endswith("json") else len(content.splitlines()) - 1


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_stopped_run_writes_its_formats_and_goes_on(words, sent, status, monkeypatch, capsys):
    keep, kept = Here._keep, []

    def stop_at_the_second(self, *values):
        kept.append(keep(self, *values))
        if len(kept) == 2:
            os.kill(os.getpid(), sent)
        return kept[-1]

    heeded = signal.default_int_handler if sent == signal.SIGINT else signal.SIG_DFL
    ignored = signal.signal(sent, heeded)  # tests in the background, or under nohup, ignore it
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(Here, "_keep", stop_at_the_second)
        assert main([*words, *FORMATS]) == status
    assert capsys.readouterr().err.strip() == "stopped" and signal.getsignal(signal.SIGTERM) is before
    assert images_in("results.csv") == images_in("coco.json") == 2
    assert Path("out/results.parquet").is_file() and Path("out/label-studio.json").is_file()
    assert main(words) == 0 and images_in("results.csv") == images_in("coco.json") == 3
    signal.signal(sent, ignored)


def test_a_watch_under_sigterm_writes_its_formats(words):
    def stop_when_all_are_scored():
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if Path("out/results.jsonl").is_file() and Path("out/results.jsonl").read_bytes().count(b"\n") == 3:
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_all_are_scored)
    thread.start()
    assert main([*words, "--watch", *FORMATS]) == 0  # as with Ctrl-C
    thread.join()
    assert images_in("results.csv") == images_in("coco.json") == 3
