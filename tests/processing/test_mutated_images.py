"""Files that are no longer what they were: each is scored or refused by name, whatever its bytes say."""

import json
import os
import random
import resource
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hostile_images import FORMATS, mutated, png_bomb, valid_file
from memory import COMMAND
from PIL import Image


@pytest.mark.slow
def test_many_mutated_files(small_folder, tmp_path):
    rng, chance, line = np.random.default_rng(0), random.Random(0), tmp_path / "line"
    line.mkdir()
    for index in range(700):
        kind, mode = FORMATS[index % len(FORMATS)]
        ending = chance.choice((kind.lower().replace("jpeg", "jpg"), kind.lower().replace("jpeg", "jpg"), "png"))
        (line / f"{index:04}.{ending}").write_bytes(mutated(valid_file(kind, mode, rng), chance))
    (line / "bomb.png").write_bytes(png_bomb(60_000, 60_000))
    (line / "large.png").write_bytes(png_bomb(12_000, 12_000))
    Image.new("RGB", (9000, 9000)).save(line / "black.png")
    command = [*COMMAND, "detect", str(line), "--model", str(small_folder)]
    command += ["--output", str(tmp_path / "out"), "--no-heatmaps", "--quiet"]
    start = time.monotonic()

    def limited():
        resource.setrlimit(resource.RLIMIT_CPU, (500, 500))

    done = subprocess.run(command, capture_output=True, text=True, timeout=540, preexec_fn=limited, env=os.environ)
    assert done.returncode == 1 and not done.stderr, done.stderr[-2000:]
    peak = int(done.stdout.split()[-1])
    assert peak < 2 * 2**30, f"{peak / 2**30:.2f} GiB"
    found = [json.loads(text) for text in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert len(found) == 703
    scored = [each for each in found if each["error"] is None]
    assert 70 < len(scored) < 630 and all(0 <= each["score"] <= 1 for each in scored)
    for each in found:
        assert each["error"] is None or Path(each["path"]).name in each["error"], each
    by_name = {Path(each["path"]).name: each for each in found}
    assert by_name["bomb.png"]["error"] and by_name["black.png"]["score"] is not None
    print(f"{len(scored)} scored, {peak / 2**30:.2f} GiB, {time.monotonic() - start:.0f} s")
