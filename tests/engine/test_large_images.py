"""Memory is bounded whatever the photo: one at a time, drawn in strips and at a bounded size."""

import json
import os
import subprocess
import threading
import time

import numpy as np
import pytest
from memory import COMMAND
from PIL import Image

from adaptclip_hf.cli import main
from adaptclip_hf.engine import DetectionResult, result
from adaptclip_hf.engine.colour_scale import FIXED, ColourScale
from adaptclip_hf.engine.heatmap import render_heatmap
from adaptclip_hf.engine.prefetch import Prefetch
from adaptclip_hf.inspection.photos import pixel_digest
from adaptclip_hf.inspection.regions import find_regions
from adaptclip_hf.processing import image_opening


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8))


def test_strips_make_the_bytes_of_the_whole(picture, monkeypatch):
    anomaly_map = np.random.default_rng(1).random((70, 90), np.float32)
    sixteen = np.random.default_rng(2).integers(0, 65536, (70, 90)).astype(np.uint16)
    scales = (FIXED, ColourScale(0.4))
    whole = [scale.blended(np.asarray(picture), anomaly_map) for scale in scales]
    digest = pixel_digest(picture)
    for values in (1, 1000, 10**6):
        monkeypatch.setattr(image_opening, "STRIP", values)
        for scale, expected in zip(scales, whole, strict=True):
            np.testing.assert_array_equal(np.asarray(render_heatmap(picture, anomaly_map, scale)), expected)
        assert pixel_digest(picture) == digest
        found = image_opening.eight_bits(sixteen, "a", None)
        np.testing.assert_array_equal(found, np.round(sixteen / 257).astype(np.uint8))


@pytest.mark.parametrize("scale", [FIXED, ColourScale(0.0), ColourScale(0.4), ColourScale(1.0)])
@pytest.mark.parametrize("highest", [0.03, 0.5, 1.0])
def test_only_coloured_pixels_are_mixed_and_all_others_are_the_photos(picture, scale, highest):
    anomaly_map, pixels = highest * np.random.default_rng(1).random((70, 90), np.float32), np.asarray(picture)
    before = pixels.copy()
    values, stops = np.linspace(scale.low, 1, 256), np.array(scale.stops)
    steps = np.clip((anomaly_map - scale.low) * np.float32(255 / max(1 - scale.low, 1e-6)), 0, 255)
    levels = (np.floor(steps + 0.5) if scale.start is None else np.ceil(steps)).astype(int)
    colours = np.stack([np.interp(values, stops[:, 0], stops[:, channel]) for channel in (1, 2, 3)], 1)[levels]
    opacity = np.where(levels == 0, 0, np.interp(values, stops[:, 0], stops[:, 4])[levels])[..., None]
    drawn = scale.blended(pixels, anomaly_map)
    assert drawn.dtype == np.uint8 and np.abs(drawn - (pixels * (1 - opacity) + colours * opacity)).max() <= 0.501
    np.testing.assert_array_equal(drawn[opacity[..., 0] == 0], before[opacity[..., 0] == 0])
    np.testing.assert_array_equal(pixels, before)  # the photo itself stays as it is


def test_a_large_photo_is_drawn_smaller_and_its_regions_keep_its_pixels(picture, monkeypatch):
    model_map = np.zeros((14, 18), np.float32)
    model_map[3:6, 4:9] = 0.8
    ignore = np.zeros((70, 90), bool)
    ignore[:, 80:] = True
    large = DetectionResult("a", 0.8, model_map, (70, 90), region=(10, 0, 80, 70), ignore=ignore, image=picture)
    exact = find_regions(large.drawn_map, 0.3, large.size)
    assert large.drawn_map is large.anomaly_map and large.heatmap().size == (90, 70)
    monkeypatch.setattr(result, "LARGEST_AS_IT_IS", 5000)
    monkeypatch.setattr(result, "LARGEST_DRAWN", 2000)
    assert large.drawn_map.size <= 2000 and large.heatmap().size == large.drawn_map.shape[::-1]
    [found], [expected] = find_regions(large.drawn_map, 0.3, large.size), exact
    assert np.abs(np.subtract(found["box"], expected["box"])).max() <= 3
    assert found["area"] == pytest.approx(expected["area"], rel=0.1)
    assert found["share"] == pytest.approx(expected["share"], rel=0.1)
    assert large.anomaly_map.shape == (70, 90)  # as the contract has it


def test_large_items_are_made_one_after_the_other():
    alive, most, lock = 0, 0, threading.Lock()

    class Item:
        def __init__(self):
            nonlocal alive, most
            with lock:
                alive += 1
                most = max(most, alive)

        def __del__(self):
            nonlocal alive
            with lock:
                alive -= 1

    def use(weight: float) -> int:
        nonlocal most
        most = 0
        for item in Prefetch((Item() for _ in range(8)), 4, lambda item: weight, 64):
            time.sleep(0.01)
            del item
        return most

    assert use(100) == 1  # none is made while another one is in use
    assert use(40) == 2
    assert use(1) >= 4


def test_a_photo_without_memory_for_it_is_named(small_folder, photos, monkeypatch, tmp_path, capsys):
    def no_memory(*arguments):
        raise MemoryError

    monkeypatch.setattr(image_opening, "to_rgb", no_memory)
    words = ["detect", photos["bad"][0], "--model", str(small_folder), "--quiet", "--output", str(tmp_path)]
    assert main(words) == 1
    assert "there is not enough memory" in json.loads((tmp_path / "results.jsonl").read_text())["error"]


def test_the_size_limit_is_the_calls(small_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # Pillow refuses twice as many
    Image.new("RGB", (100, 100)).save(tmp_path / "large.png")
    words = ["detect", str(tmp_path / "large.png"), "--model", str(small_folder), "--quiet", "--output"]
    assert main([*words, str(tmp_path / "a")]) == 1
    error = json.loads((tmp_path / "a" / "results.jsonl").read_text())["error"]
    assert "large.png" in error and "--megapixels" in error
    assert main([*words, str(tmp_path / "b"), "--megapixels", "1"]) == 0


@pytest.mark.slow
def test_photos_of_169_megapixels_stay_below_two_gigabytes(small_folder, tmp_path):
    """Three of them in a folder; a process of its own, whose memory is measured."""
    Image.new("RGB", (13_000, 13_000), (90, 120, 60)).save(tmp_path / "0.jpg")
    for number in (1, 2):
        (tmp_path / f"{number}.jpg").hardlink_to(tmp_path / "0.jpg")
    words = ["detect", str(tmp_path), "--model", str(small_folder), "--quiet", "--output", str(tmp_path / "out")]
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.split()[-1])
    assert peak < 2 * 2**30, f"{peak / 2**30:.2f} GiB"
