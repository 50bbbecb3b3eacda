"""Folders that somebody damaged or made up: each opens or is refused in one line, and none runs code."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_folders import FIXTURE, KINDS, RAN, make_items, set_canaries

EACH = 100
TESTS = Path(__file__).resolve().parents[1]
MOST_GIB, MOST_SECONDS = 2.0, 5.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_hostile_items_of_each_kind(kind, tmp_path):
    for name in ("model", "profile", "images"):
        shutil.copytree(FIXTURE / name, tmp_path / name)
    set_canaries(tmp_path)
    (tmp_path / "victim.txt").write_text("untouched")
    make_items(kind, EACH, tmp_path / kind)
    before = {file.name for file in tmp_path.iterdir()}
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(TESTS.parent)])
    command = [sys.executable, str(TESTS / "open_hostile.py"), kind, kind]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == EACH, done.stderr[-2000:]
    assert not (tmp_path / RAN).exists(), "code was run"
    failed = [each for each in found if each["outcome"] == "failed"]
    assert not failed, "\n".join(f"{each['item']}: {each['error'][:300]}" for each in failed)
    for each in found:
        assert each["error"] is None or len(each["error"].splitlines()) == 1, each
        assert each["seconds"] < MOST_SECONDS, each
    assert max(each["gib"] for each in found) < MOST_GIB
    outcomes = {each["outcome"] for each in found}
    assert outcomes == {"opened", "refused"}, outcomes  # neither everything nor nothing is refused
    assert {file.name for file in tmp_path.iterdir()} - before <= {"__pycache__"}
    assert (tmp_path / "victim.txt").read_text() == "untouched"
