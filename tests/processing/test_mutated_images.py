"""Files that are no longer what they were: each is scored or refused by name, whatever its bytes say."""

import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FORMATS = (
    *(("PNG", mode) for mode in ("RGBA", "P", "I;16", "1")),
    *(("TIFF", mode) for mode in ("RGB", "F", "CMYK")),
    *(("JPEG", mode) for mode in ("RGB", "CMYK")),
    *((kind, "RGB") for kind in ("BMP", "WEBP", "PPM")),
    ("GIF", "P"),
    ("TGA", "RGBA"),
)


def sound_file(kind: str, mode: str, rng) -> bytes:
    values = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray((values[..., 0] / 255).astype(np.float32))
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Bits flipped, cut off, doubled, filled with zeros, or a header that lies about the size."""
    way, content = chance.randrange(6), bytearray(content)
    if way == 0:
        for _ in range(chance.choice((1, 3, 30))):
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif way == 1:
        del content[chance.randrange(len(content)) :]
    elif way == 2:
        place = chance.randrange(len(content))
        content[place:place] = content[: chance.randrange(1, 200)]
    elif way == 3:
        place = chance.randrange(len(content))
        content[place : place + 64] = bytes(64)
    elif way == 4:  # within the first bytes, where sizes stand
        place = chance.randrange(4, min(60, len(content) - 4))
        content[place : place + 4] = chance.choice((b"\xff\xff\xff\x7f", b"\x00\x01\x00\x00", b"\xff\xff\xff\xff"))
    else:
        content = bytearray(chance.randbytes(chance.choice((1, 10, 1000))))
    return bytes(content)


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes whose pixels are many."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = zlib.compress(bytes((width // 8 + 1) * min(height, 20_000)), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


@pytest.mark.slow
def test_two_thousand_mutated_files(small_folder, tmp_path):
    rng, chance, line = np.random.default_rng(0), random.Random(0), tmp_path / "line"
    line.mkdir()
    for index in range(2000):
        kind, mode = FORMATS[index % len(FORMATS)]
        ending = chance.choice((kind.lower().replace("jpeg", "jpg"), kind.lower().replace("jpeg", "jpg"), "png"))
        (line / f"{index:04}.{ending}").write_bytes(mutated(sound_file(kind, mode, rng), chance))
    (line / "bomb.png").write_bytes(png_bomb(60_000, 60_000))
    (line / "large.png").write_bytes(png_bomb(12_000, 12_000))
    Image.new("RGB", (9000, 9000)).save(line / "black.png")
    command = [sys.executable, "-m", "adaptclip_hf.cli", "detect", str(line), "--model", str(small_folder)]
    command += ["--output", str(tmp_path / "out"), "--no-heatmaps", "--quiet"]
    start = time.monotonic()

    def limited():
        resource.setrlimit(resource.RLIMIT_CPU, (500, 500))

    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = subprocess.run(command, capture_output=True, text=True, timeout=540, preexec_fn=limited, env=os.environ)
    assert done.returncode == 1 and not done.stderr, done.stderr[-2000:]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert peak < 2 * 2**20 or peak == before, f"{peak / 2**20:.2f} GiB"
    found = [json.loads(text) for text in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert len(found) == 2003
    scored = [each for each in found if each["error"] is None]
    assert 200 < len(scored) < 1800 and all(0 <= each["score"] <= 1 for each in scored)
    for each in found:
        assert each["error"] is None or Path(each["path"]).name in each["error"], each
    by_name = {Path(each["path"]).name: each for each in found}
    assert by_name["bomb.png"]["error"] and by_name["black.png"]["score"] is not None
    print(f"{len(scored)} scored, {peak / 2**20:.2f} GiB, {time.monotonic() - start:.0f} s")
