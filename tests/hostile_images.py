"""Image files of every format, whole, damaged at random, or with far more pixels than bytes."""

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

FORMATS = (
    *(("PNG", mode) for mode in ("RGBA", "P", "I;16", "1")),
    *(("TIFF", mode) for mode in ("RGB", "F", "CMYK")),
    *(("JPEG", mode) for mode in ("RGB", "CMYK")),
    *((kind, "RGB") for kind in ("BMP", "WEBP", "PPM")),
    ("GIF", "P"),
    ("TGA", "RGBA"),
)


def valid_file(kind: str, mode: str, rng) -> bytes:
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
