"""The tutorials, followed line by line from an empty folder, as their readers do."""

import re
import shlex
import signal
import time
import urllib.request
from pathlib import Path

import pytest
from commands import CLI, Command, run_python, start_python

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


GOOD, MONDAY = 20, ("000", "003", "012", "015")  # photos that are kept: all of them take minutes more


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Who follows one tutorial after the other has what the lines made that stand in both."""
    folder = tmp_path_factory.mktemp("tutorials")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


@pytest.fixture(scope="module")
def done() -> set[str]:
    """Lines that were run."""
    return set()


def python_words(words: list[str]) -> list[str]:
    return words[1:] if words[0] == "python" else [*CLI, *words[1:]]


def follow(words: list[str], folder: Path):
    assert words[0] in ("python", "adaptclip")
    ran = run_python(*python_words(words), folder=folder, timeout=600)
    assert ran.returncode == 0, f"{words}\n{ran.stdout[-2000:]}\n{ran.stderr[-5000:]}"
    if words[:2] == ["python", "examples/make_line.py"]:
        keep_some(folder / words[2])


def keep_some(line: Path):
    photos = sorted((line / "good").iterdir())[GOOD:]
    photos += [file for file in (line / "monday").iterdir() if not file.name.startswith(MONDAY)]
    for file in photos:
        file.unlink()


def watch(words: list[str], folder: Path):
    """A command that goes on until it is stopped: it sees every photo, and Ctrl-C ends it well."""
    results = folder / words[words.index("--output") + 1] / "results.jsonl"
    command = start_python(*python_words(words), folder=folder)
    photos, deadline = len(list((folder / words[2]).iterdir())), time.monotonic() + 120
    while not (results.is_file() and len(results.read_text().splitlines()) == photos):
        assert command.poll() is None and time.monotonic() < deadline
        time.sleep(0.5)
    command.send_signal(signal.SIGINT)
    assert command.wait(60) in (0, 130)


def serve(words: list[str], folder: Path) -> Command:
    command = start_python(*python_words(words), folder=folder)
    address, deadline = f"http://127.0.0.1:{words[words.index('--port') + 1]}/health", time.monotonic() + 120
    while True:
        try:
            assert urllib.request.urlopen(address, timeout=5).status == 200
            return command
        except OSError:
            assert command.poll() is None and time.monotonic() < deadline
            time.sleep(0.5)


@pytest.mark.slow(70)
@pytest.mark.parametrize(
    "page",
    [
        # the two that begin with the same line of parts, by one process
        pytest.param(page, id=page.stem, marks=[] if page.stem == "researcher" else pytest.mark.xdist_group("line"))
        for page in TUTORIALS
    ],
)
def test_a_tutorial(page, folder, done):
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert len(blocks) > 3
    service = None
    try:
        for language, text in blocks:
            if language == "python":
                follow(["python", "-c", text], folder)
                continue
            for line in text.splitlines():
                words = shlex.split(line)
                if "--watch" in words:
                    watch(words, folder)
                elif words[:2] == ["adaptclip", "serve"]:
                    service = serve(words, folder)
                elif line not in done:
                    follow(words, folder)
                    done.add(line)
    finally:
        if service is not None:
            service.send_signal(signal.SIGTERM)
            service.wait(60)
