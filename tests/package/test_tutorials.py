"""The tutorials, followed line by line from an empty folder, as their readers do."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from commands import run_command

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}


def watch(words: list[str], folder: Path):
    """A command that goes on until it is stopped: it sees every photo, and Ctrl-C ends it well."""
    results = folder / words[words.index("--output") + 1] / "results.jsonl"
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  # tests in the background ignore it
    process = subprocess.Popen(words, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    photos, deadline = len(list((folder / words[2]).iterdir())), time.monotonic() + 120
    while not (results.is_file() and len(results.read_text().splitlines()) == photos):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) in (0, 130)


def serve(words: list[str], folder: Path) -> subprocess.Popen:
    process = subprocess.Popen(words, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
    address, deadline = f"http://127.0.0.1:{words[words.index('--port') + 1]}/health", time.monotonic() + 120
    while True:
        try:
            assert urllib.request.urlopen(address, timeout=5).status == 200
            return process
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
            time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial(page, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert len(blocks) > 3
    service = None
    try:
        for language, text in blocks:
            if language == "python":
                run_command(["python", text], tmp_path)
                continue
            for line in text.splitlines():
                words = shlex.split(line)
                if "--watch" in words:
                    watch(words, tmp_path)
                elif words[:2] == ["adaptclip", "serve"]:
                    service = serve(words, tmp_path)
                else:
                    run_command(words, tmp_path)
    finally:
        if service is not None:
            service.send_signal(signal.SIGTERM)
            service.wait(60)
