"""What image files hold beside one plain picture: programs, pages, tags. Each is read right or refused by name."""

import base64
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from adaptclip_hf.processing import image_loading
from adaptclip_hf.processing.image_loading import load_image, load_mask, read_mask
from adaptclip_hf.processing.image_opening import ImageWarning, formats

CASES = Path(__file__).parents[1] / "cases"
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"


@pytest.fixture
def picture() -> Image.Image:
    values = np.add.outer(np.arange(40) * 3, np.arange(48) * 2) + 10
    return Image.fromarray(np.stack([values, 255 - values, np.roll(values, 7, 1)], -1).astype(np.uint8))


@pytest.fixture
def ghostscript(tmp_path, monkeypatch) -> Path:
    """A file that a program named gs writes, which is the first in PATH."""
    ran, program = tmp_path / "ran", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho ran > {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    return ran


def test_postscript_starts_no_program(ghostscript, tmp_path):
    file = tmp_path / "part.png"
    file.write_bytes(POSTSCRIPT)
    with pytest.raises(OSError):
        Image.open(file).load()  # Pillow by itself starts it
    assert ghostscript.exists()
    ghostscript.unlink()
    sources = [file, str(file), POSTSCRIPT, io.BytesIO(POSTSCRIPT), base64.b64encode(POSTSCRIPT).decode()]
    for source in (*sources, {"path": "x.png", "bytes": POSTSCRIPT}, Image.open(file)):
        for read in (load_image, load_mask):
            with pytest.raises(ValueError, match=r"not an image format that is read here|in the format EPS"):
                read(source)
    assert not ghostscript.exists()


def test_every_file_is_opened_with_the_one_list_of_formats():
    """No module opens an image by Pillow itself, which knows programs too."""
    root = Path(image_loading.__file__).parents[1]
    package = root / "adaptclip_hf" if (root / "adaptclip_hf").is_dir() else root
    files = [file for folder in (package, root / "processing", root / "modeling") for file in folder.rglob("*.py")]
    opening = {file.name for file in files if "Image.open(" in file.read_text()}
    assert opening == {"image_opening.py"}
    assert set(formats()) <= set(Image.OPEN) and not {"EPS", "PSD", "WMF", "FITS", "ICO"} & set(formats())


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP"])
def test_the_formats_that_hold_pictures_are_opened(kind, picture):
    file = io.BytesIO()
    image = picture.quantize(16) if kind == "GIF" else picture
    image.save(file, kind)
    assert load_image(file).size == picture.size


def test_pages_and_frames_are_named(picture, tmp_path):
    other = picture.rotate(180)
    for name, options in {
        "two.tif": {},
        "two.gif": {},
        "two.webp": {"lossless": True},
        "two.png": {},
        "two.mpo": {"format": "MPO"},
        "two.jpg": {"format": "MPO"},
    }.items():
        picture.save(tmp_path / name, save_all=True, append_images=[other], **options)
        with pytest.raises(ValueError, match=rf"{name} holds 2 (pages|frames); expected one picture"):
            load_image(tmp_path / name)
        with pytest.raises(ValueError, match="holds 2"):
            load_image((tmp_path / name).read_bytes())
    for name in ("two_pages.tif", "two_frames.webp"):
        with pytest.raises(ValueError, match=f"{name} holds 2"):
            load_image(CASES / name)


def test_a_page_that_was_turned_to_is_meant(picture):
    with Image.open(CASES / "two_pages.tif") as image:
        with pytest.raises(ValueError, match="holds 2 pages"):
            load_image(image)
        image.seek(1)
        np.testing.assert_array_equal(load_image(image), load_image(CASES / "second_page_alone.png"))


def test_smaller_copies_are_no_pages(picture, tmp_path):
    """Thumbnails in a TIFF, and previews or gain maps behind a phone's JPEG."""
    small = picture.resize((12, 10))
    picture.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[small], quality=95)
    with pytest.warns(ImageWarning, match="preview or gain map"):
        found = load_image(tmp_path / "phone.jpg")
    picture.save(tmp_path / "plain.jpg", quality=95)
    np.testing.assert_array_equal(found, load_image(tmp_path / "plain.jpg"))
    thumbnail = small.copy()
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    picture.save(tmp_path / "thumbnail.tif", save_all=True, append_images=[thumbnail])
    np.testing.assert_array_equal(load_image(tmp_path / "thumbnail.tif"), picture)


def test_heic_is_named_whatever_the_file_is_called():
    content = struct.pack(">I", 24) + b"ftypheic" + b"\0\0\0\0mif1heic" + bytes(200)
    with pytest.raises(ValueError, match="it is HEIC, which Pillow does not read; convert it"):
        load_image(content)


def test_white_is_zero_is_the_same_picture_at_any_depth():
    eight, sixteen = (np.asarray(load_image(CASES / f"white_is_zero_{bits}bit.tif")) for bits in (8, 16))
    np.testing.assert_array_equal(eight, sixteen)


def test_planar_colours_are_refused_or_the_same():
    np.testing.assert_array_equal(*(load_image(CASES / name) for name in ("interleaved.tif", "second_page_alone.png")))
    with pytest.raises(ValueError, match=r"planar\.tif holds 16-bit colours plane by plane"):
        load_image(CASES / "planar.tif")


DTYPES = ("uint8", "uint16", "int8", "int16", "int32", "uint32", "float16", "float32", "float64")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiffs_are_read_as_another_reader_does(dtype, order, compression, tmp_path):
    """Grey and colour, planes, tiles and both photometrics: the values of tifffile, or a refusal."""
    tifffile = pytest.importorskip("tifffile")
    values = (np.add.outer(np.arange(40) * 3, np.arange(48) * 2) + 10).astype(np.float64)
    scale = {"uint8": 1, "uint16": 257, "int8": 0.4, "int16": 100, "int32": 257, "uint32": 257}.get(dtype, 1 / 256)
    grey = (values * scale).astype(dtype)
    colour = np.stack([grey, np.roll(grey, 5, 0), np.roll(grey, 7, 1)], -1)
    kinds = {
        "black": (grey, {"photometric": "minisblack"}),
        "white": (grey, {"photometric": "miniswhite"}),
        "tiles": (grey, {"photometric": "minisblack", "tile": (16, 16)}),
        "colours": (colour, {"photometric": "rgb"}),
        "planes": (np.moveaxis(colour, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
    }
    read = 0
    for kind, (data, options) in kinds.items():
        file = tmp_path / f"{kind}.tif"
        tifffile.imwrite(file, data, byteorder=order, compression=compression, **options)
        try:
            found = np.asarray(load_image(file, bit_depth=16 if dtype[0] in "iu" and "8" not in dtype else None), int)
        except ValueError as error:
            assert str(file) in str(error)
            continue
        read += 1
        held = tifffile.imread(file).astype(np.float64)
        held = np.moveaxis(held, 0, -1) if kind == "planes" else held
        white = {"uint8": 255}.get(dtype, 1 if dtype.startswith("float") else 65535)
        expected = (white - held if kind == "white" else held) * (255 / white)
        expected = expected if expected.ndim == 3 else np.stack([expected] * 3, -1)
        assert np.abs(found - expected).max() <= 1, kind
    assert read or dtype not in ("uint8", "uint16")


def sixteen_bit_png(values: np.ndarray, significant: int | None = None) -> bytes:
    """A grey PNG, with the chunk sBIT."""
    file = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(file, "PNG")
    content = file.getvalue()
    if significant is None:
        return content
    chunk = b"sBIT" + bytes([significant])
    return content[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]


@pytest.mark.parametrize(("name", "bits"), [("mono10.png", 10), ("mono12.png", 12)])
def test_bits_that_are_not_used_are_told_or_set(name, bits):
    with pytest.warns(ImageWarning, match=rf"cases: 16-bit files use 0\.\.{2**bits - 1} of .*--bit-depth {bits}"):
        dark = np.asarray(load_image(CASES / name))
    assert dark.max() < 20
    values = np.asarray(Image.open(CASES / name))
    expected = np.round(values / (2**bits - 1) * 255).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in (CASES / name, values, sixteen_bit_png(values), Image.fromarray(values)):
            np.testing.assert_array_equal(np.asarray(load_image(source, bit_depth=bits))[..., 0], expected)
        np.testing.assert_array_equal(np.asarray(load_image(sixteen_bit_png(values, bits)))[..., 0], expected)
        np.testing.assert_array_equal(np.asarray(load_image(CASES / name, bit_depth=16)), dark)
    with pytest.raises(ValueError, match=f"more than a bit depth of {bits - 1} holds"):
        load_image(CASES / name, bit_depth=bits - 1)


def test_the_tag_of_a_file_whose_values_are_spread_over_all_bits(picture):
    values = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    expected = load_image(sixteen_bit_png(values))
    assert load_image(sixteen_bit_png(values, 10)) == expected == picture.convert("L").convert("RGB")
    pgm = b"P5 48 40 1023\n" + (np.asarray(picture.convert("L")).astype(np.uint16) * 4).astype(">u2").tobytes()
    found = np.asarray(load_image(pgm), int)[..., 0]
    assert np.abs(found - np.asarray(picture.convert("L"), int)).max() <= 1


def test_tags_of_tiffs_set_the_range(picture, tmp_path):
    values = np.asarray(picture.convert("L")).astype(np.uint16) * 4
    image = Image.fromarray(values)
    image.save(tmp_path / "tagged.tif", tiffinfo={281: 1023})
    found = np.asarray(load_image(tmp_path / "tagged.tif"), int)[..., 0]
    assert np.abs(found - np.asarray(picture.convert("L"), int)).max() <= 1


def test_a_bit_depth_is_not_for_colours_of_which_pillow_reads_the_upper_bits():
    with pytest.raises(ValueError, match="16-bit colours, of which Pillow keeps the upper 8 bits"):
        load_image(CASES / "interleaved.tif", bit_depth=10)


@pytest.mark.parametrize("format_", ["tif", "png"])
def test_dark_sixteen_bit_colours_are_told(picture, format_, tmp_path):
    if format_ == "tif":
        tifffile = pytest.importorskip("tifffile")
        tifffile.imwrite(tmp_path / "a.tif", np.asarray(picture).astype(np.uint16) * 4, photometric="rgb")
    else:
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.asarray(picture).astype(np.uint16) * 4)
        parts = [
            (b"IHDR", struct.pack(">IIBBBBB", 48, 40, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        ]
        chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with pytest.warns(ImageWarning, match=r"16-bit files use 0\.\.1023"):
        load_image(tmp_path / f"a.{format_}")


def test_truncated_images_are_told_where_pillow_was_told_to_load_them(picture, monkeypatch):
    file = io.BytesIO()
    picture.resize((480, 400)).save(file, "JPEG", quality=95)
    cut = file.getvalue()[:-5000]
    with pytest.raises(ValueError, match="truncated"):
        load_image(cut)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.warns(ImageWarning, match="LOAD_TRUNCATED_IMAGES is set"):
        load_image(cut)


def truth() -> np.ndarray:
    mask = np.zeros((60, 80), bool)
    mask[15:35, 20:60] = True
    return mask


def test_masks_of_two_values_are_as_before(tmp_path):
    mask = truth()
    for name, image in {
        "one.png": Image.fromarray(mask.astype(np.uint8)),
        "white.png": Image.fromarray(mask.astype(np.uint8) * 255),
        "sixteen.png": Image.fromarray(mask.astype(np.uint16) * 65535),
        "bits.png": Image.fromarray(mask),
        "white.webp": Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB"),
    }.items():
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        found, oddity = read_mask(tmp_path / name)
        np.testing.assert_array_equal(found, mask, err_msg=name)
        assert oddity is None


def test_jpeg_masks_are_cut_at_half_and_others_of_many_values_are_named(tmp_path):
    mask = truth()
    for highest in (255, 128):
        Image.fromarray(mask.astype(np.uint8) * highest).save(tmp_path / "mask.jpg", quality=70)
        found, oddity = read_mask(tmp_path / "mask.jpg")
        assert (found != mask).mean() < 0.001 and "at half of the highest" in oddity
    soft = Image.fromarray(mask.astype(np.uint8) * 255).resize((81, 61), Image.Resampling.BILINEAR)
    soft.save(tmp_path / "soft.png")
    found, oddity = read_mask(tmp_path / "soft.png")
    assert "values where two are expected; it is cut above 0" in oddity
    np.testing.assert_array_equal(found, np.asarray(soft) > 0)
    with pytest.raises(ValueError, match="finite"):
        load_mask(np.where(truth(), np.nan, 0))


def test_masks_with_a_palette(tmp_path):
    mask = truth()
    for name, palette, numbers in (
        ("voc", [0, 0, 0, 128, 0, 0], mask),  # numbers, the background black
        ("tab", [31, 119, 180, 255, 127, 14], mask),  # numbers, the background blue
        ("black", [0] * 6, mask),  # numbers, all of one colour
        ("turned", [255] * 3 + [0] * 3, ~mask),  # a picture in greys, whose first grey is white
    ):
        image = Image.fromarray(numbers.astype(np.uint8)).convert("P")
        image.putpalette(palette)
        image.save(tmp_path / f"{name}.png")
        assert Image.open(tmp_path / f"{name}.png").mode == "P"
        np.testing.assert_array_equal(load_mask(tmp_path / f"{name}.png"), mask, err_msg=name)


def test_base64_data_urls_and_open_files(picture, tmp_path):
    file = tmp_path / "a.png"
    picture.save(file)
    content, text = file.read_bytes(), base64.b64encode(file.read_bytes()).decode()
    broken = "\r\n".join(text[first : first + 76] for first in range(0, len(text), 76))
    with file.open("rb") as opened:
        opened.seek(7)
        sources = [
            text, broken, f"data:image/png;base64,{text}", f"data:image/x-thing;name=a.png;base64,{broken}",
            f"DATA:;base64,{text}", f"data:application/octet-stream;base64,{text.replace('+', '%2B')}", file.as_uri(),
            io.BytesIO(content), memoryview(content), opened, {"path": None, "bytes": content},
            {"path": str(file), "bytes": None},
        ]  # fmt: skip
        for source in sources:
            assert load_image(source) == picture, str(source)[:40]
        assert opened.tell() == 7  # stays where it was
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")  # which leaves it at its end
    assert load_image(buffer) == picture
    with file.open("r") as as_text, pytest.raises((ValueError, UnicodeDecodeError)):
        load_image(as_text)
    for wrong, message in (("data:image/png;base64", "no comma"), ("data:image/png;base64,???", "nor base64")):
        with pytest.raises(ValueError, match=message):
            load_image(wrong)


def test_long_paths_are_paths(picture, tmp_path):
    folder = tmp_path
    while len(str(folder)) < 1500:
        folder = folder / ("f" * 100)
    folder.mkdir(parents=True)
    picture.save(folder / "a.png")
    assert load_image(str(folder / "a.png")) == picture
    with pytest.raises(FileNotFoundError, match="No such image file"):
        load_image(str(folder / "b.png"))


def test_a_download_is_bounded(picture, monkeypatch):
    class Response(io.BytesIO):
        pass

    monkeypatch.setattr(image_loading.urllib.request, "urlopen", lambda url, timeout: Response(bytes(3_000_000)))
    monkeypatch.setattr(image_loading, "LARGEST_DOWNLOAD", 1_000_000)
    with pytest.raises(ValueError, match="larger than 1000000 bytes"):
        load_image("http://localhost/a.png")
    monkeypatch.setattr(image_loading, "LARGEST_DOWNLOAD", 10_000_000)
    monkeypatch.setattr(image_loading, "URL_TIMEOUT", -1)
    with pytest.raises(ValueError, match="did not come within"):
        load_image("http://localhost/a.png")


def test_maps_with_a_palette_are_numbers_or_greys(tmp_path):
    from adaptclip_hf.evaluation.saved_maps import read_map

    values = np.arange(60 * 80).reshape(60, 80).astype(np.uint8)
    ramp = np.arange(256, dtype=np.uint8)
    palettes = {"jet": np.stack([ramp, ramp[::-1], np.roll(ramp, 9)], 1), "turned": np.stack([ramp[::-1]] * 3, 1)}
    for name, palette in palettes.items():
        image = Image.fromarray(values).convert("P")
        image.putpalette(palette.tobytes())
        image.save(tmp_path / f"{name}.png")
        expected = values if name == "jet" else 255 - values
        np.testing.assert_array_equal(read_map(tmp_path / f"{name}.png"), expected)
