"""Files of few bytes that would take minutes or gigabytes are refused before Pillow opens them."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from adaptclip_hf.processing.image_loading import load_image
from adaptclip_hf.processing.image_structure import excess


def saved(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3)).save(file, kind, **options)
    return file.getvalue()


def gif(blocks: int) -> bytes:
    """A GIF with a comment of so many blocks of one byte."""
    content = saved("GIF")
    place = content.index(b"\x2c", 13 + 3 * 2 ** ((content[10] & 7) + 1))
    return content[:place] + b"!\xfe" + b"\x01x" * blocks + b"\0" + content[place:]


def png(chunks: int) -> bytes:
    content, chunk = saved("PNG"), b"\0\0\0\0prVt" + struct.pack(">I", zlib.crc32(b"prVt"))
    return content[:33] + chunk * chunks + content[33:]


def jpeg(segments: int) -> bytes:
    content = saved("JPEG")
    return content[:2] + b"\xff\xe5\x00\x02" * segments + content[2:]


def tiff(*entries: tuple[int, int, int, int], more: bytes = b"") -> bytes:
    """A TIFF of grey, 32 by 32, with more tags: (tag, type, count, value)."""
    given = {entry[0] for entry in entries}
    usual = [(256, 3, 1, 32), (257, 3, 1, 32), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags = sorted([*(entry for entry in usual if entry[0] not in given), *entries])
    packed = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + packed + bytes(4) + more


HOSTILE = {
    "comment": gif(500_000),
    "chunks": png(200_000),
    "segments": jpeg(500_000),
    "filling": saved("JPEG")[:2] + b"\xff" * 500_000 + saved("JPEG")[2:],
    "strips": tiff((273, 3, 1_000_000, 140), (279, 3, 1_000_000, 140), more=bytes(2_000_000)),
    "tile": tiff((322, 4, 1, 26_000), (323, 4, 1, 26_000), (324, 4, 1, 150), (325, 4, 1, 10), more=bytes(100)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_picture_with_too_many_parts_is_refused_quickly(name):
    start = time.process_time()
    with pytest.raises(
        ValueError, match=r"holds (more than|tiles of) .* which no camera writes; save the picture anew"
    ):
        load_image(HOSTILE[name])
    assert time.process_time() - start < 2


def test_what_programs_write_is_not_refused():
    rgb = Image.new("RGB", (600, 500), "red")
    files = [saved(kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")]
    files += [saved("GIF", comment=b"a comment " * 5000), saved("JPEG", comment=b"x" * 60_000), jpeg(200), png(2000)]
    files += [saved("TIFF", compression=each) for each in ("tiff_lzw", "tiff_adobe_deflate", "jpeg")]
    for options in ({"big_tiff": True}, {"tiffinfo": {278: 1}}):
        file = io.BytesIO()
        rgb.save(file, "TIFF", **options)
        files.append(file.getvalue())
    files.append(saved("PNG") + bytes(4_000_000))
    for content in files:
        assert excess(io.BytesIO(content)) is None
        assert load_image(content).mode == "RGB"


@pytest.mark.parametrize("start", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b""])
def test_what_is_cut_off_is_left_to_its_decoder(start):
    for length in range(0, 64):
        assert excess(io.BytesIO(start + bytes(length))) is None
        excess(io.BytesIO(start + b"\xff" * length))
