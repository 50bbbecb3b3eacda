"""How photos are looked at: tiles, places, regions, masks, and photos that are no square."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector, InspectionProfile, PromptBank, View
from adaptclip_hf.cli import main
from adaptclip_hf.engine.tiles import HIDDEN, TileMerger
from adaptclip_hf.processing.map_sizes import resize_map


@pytest.fixture(scope="module")
def detector(small_folder) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(small_folder, device="cpu")


def texture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A surface whose grain does not depend on the photo's size."""
    rng = np.random.default_rng(seed)
    fine = rng.normal(128, 18, (height, width, 1)) + rng.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(fine, 0, 255).astype(np.uint8))


def test_what_fits_in_one_tile_is_looked_at_whole(detector):
    image, normal = texture(120, 100), [texture(120, 100, seed) for seed in (1, 2)]
    found = []
    for view in (View(), View(tile="whole"), View(tile=120), View(tile=400)):
        bank = detector.remember(normal, view=view)
        assert len(bank) == 2
        found += detector.detect(image, prompt_bank=bank, view=view)
    for other in found[1:]:
        assert other.score == found[0].score
        np.testing.assert_array_equal(other.anomaly_map, found[0].anomaly_map)


@pytest.mark.parametrize(
    ("size", "view", "grid"),
    [
        ((8000, 400), View(), (1, 27)),
        ((400, 8000), View(), (27, 1)),
        ((800, 400), View(), (1, 1)),
        ((801, 400), View(), (1, 3)),
        ((8000, 400), View(tile="whole"), (1, 1)),
        ((8000, 400), View(tile=518), (1, 27)),
        ((6000, 4000), View(), (1, 1)),
        ((6000, 4000), View(tile=1000), (5, 8)),
        ((6000, 4000), View(tile=1000, overlap=0), (4, 6)),
        ((1000, 900), View(tile=64, region=(10, 20, 64, 64)), (1, 1)),
    ],
)
def test_tiles_cover_everything_and_overlap_as_asked(size, view, grid):
    tiles = view.tiles(size[::-1], "photo")
    assert tiles.grid == grid and len(tiles) == grid[0] * grid[1]
    for starts, side, length in (
        (tiles.columns, tiles.side[0], tiles.region[2]),
        (tiles.rows, tiles.side[1], tiles.region[3]),
    ):
        assert starts[0] == 0 and starts[-1] + side == length
        steps = np.diff(starts)
        assert len(steps) == 0 or steps.max() <= side * (1 - view.overlap) + 1


@pytest.mark.parametrize("size", [(6000, 4000), (8000, 400), (1000, 777)])
def test_maps_are_blended_without_seams(size):
    """Tiles that all see one smooth scene give it back; tiles that disagree meet without a step."""
    tiles = View(tile=518).tiles(size[::-1], "photo")
    merger, rng = TileMerger(tiles), np.random.default_rng(0)
    scene = np.linspace(0, 1, size[0], dtype=np.float32)[None].repeat(size[1], 0)
    for number in range(len(tiles)):
        row, column = divmod(number, len(tiles.columns))
        left, top = tiles.columns[column], tiles.rows[row]
        part = scene[top : top + tiles.side[1], left : left + tiles.side[0]]
        merger.add(number, 0.1, resize_map(part, (84, 84)))
    assert np.abs(resize_map(merger.map, size[::-1]) - scene).max() < 0.01
    merger = TileMerger(tiles)
    for number in range(len(tiles)):
        merger.add(number, 0.1, np.full((84, 84), rng.uniform(), np.float32))
    steps = max(np.abs(np.diff(merger.map, axis=axis)).max() for axis in (0, 1) if merger.map.shape[axis] > 1)
    assert steps < 0.12  # a jump from one tile's value to the next one's would be up to 1
    assert 0 <= merger.map.min() and merger.map.max() <= 1


def test_steps_across_tile_borders_are_no_larger_than_inside(detector):
    view = View(tile=84)
    [result] = detector.detect(texture(400, 300), view=view)
    tiles = view.tiles((300, 400), "photo")
    steps = np.abs(np.diff(result.anomaly_map, axis=1)).max(0)
    borders = {edge for start in tiles.columns for edge in (start, start + 84)} - {0, 400}
    at_borders = [steps[edge - 2 : edge + 2].max() for edge in borders]
    assert max(at_borders) <= steps.max() and np.median(at_borders) <= 2 * np.median(steps)


def test_the_score_is_that_of_the_worst_tile(detector):
    image, view = texture(240, 80), View()
    [whole] = detector.detect(image, view=view)
    tiles = list(view.tiles((image.height, image.width), "image").crops(image))
    assert len(tiles) == 4
    assert whole.score == pytest.approx(max(each.score for each in detector.detect(tiles)), abs=1e-6)
    batched = detector.detect([image, texture(90, 90), image], view=view, batch_size=3)
    assert [each.score for each in batched] == pytest.approx([whole.score, batched[1].score, whole.score], abs=1e-6)
    assert [each.anomaly_map.shape for each in batched] == [(80, 240), (90, 90), (80, 240)]


def test_each_place_is_compared_with_its_own(detector):
    """A board of two halves that are swapped is unlike itself place by place, and like itself all in all."""
    dark, light = (Image.new("RGB", (200, 100), colour) for colour in ((40, 20, 20), (200, 230, 230)))

    def board(left, right):
        image = Image.new("RGB", (400, 100))
        image.paste(left, (0, 0))
        image.paste(right, (200, 0))
        return Image.fromarray((np.asarray(image) + np.asarray(texture(400, 100))[..., :1] // 8).astype(np.uint8))

    normal, swapped = [board(dark, light)], board(light, dark)
    distances = {}
    for same_place in (False, True):
        view = View(tile=100, overlap=0, same_place=same_place)
        bank = detector.remember(normal, view=view)
        [same] = detector.detect(normal[0], prompt_bank=bank, view=view)
        [other] = detector.detect(swapped, prompt_bank=bank, view=view)
        assert same.among_normals
        distances[same_place] = other.anomaly_map[20:80, 20:80].mean()
    assert distances[True] > 1.5 * distances[False]
    with pytest.raises(ValueError, match=r"cut into \(1, 3\) rows and columns of tiles, the normal ones into \(1, 4\)"):
        detector.detect(texture(300, 100), prompt_bank=bank, view=view)
    images = [texture(300, 100), swapped]
    results = detector.detect(images, prompt_bank=bank, view=view, on_error=lambda name, error: None)
    assert "all images must have one size" in results[0].error and results[1].score == other.score
    with pytest.raises(ValueError, match="all images must have one size"):
        detector.remember([normal[0], texture(300, 100)], view=view)


def test_a_bank_of_another_view_is_refused(detector, tmp_path):
    bank = detector.remember([texture(240, 80)], view=View(tile=64))
    with pytest.raises(ValueError, match="view is"):
        detector.detect(texture(240, 80), prompt_bank=bank)
    file = bank.save_pretrained(tmp_path / "bank.safetensors")
    detector.detect(texture(240, 80), prompt_bank=PromptBank.from_pretrained(file), view=View(tile=64))


def test_a_region_and_a_mask(detector):
    image = texture(200, 160)
    spoiled = image.copy()
    ImageDraw.Draw(spoiled).rectangle((0, 0, 40, 40), fill=(255, 0, 0))
    view = View(region=(60, 50, 100, 90))
    one, other = detector.detect([image, spoiled], view=view)
    assert one.score == other.score and one.anomaly_map.shape == (160, 200)
    assert (
        not one.anomaly_map[:50].any() and not one.anomaly_map[:, :60].any() and one.anomaly_map[60:130, 70:150].all()
    )
    [cropped] = detector.detect(image.crop((60, 50, 160, 140)))
    assert cropped.score == one.score
    ignore = np.zeros((160, 200), bool)
    ignore[:45, :45] = True
    one, other = detector.detect([image, spoiled], view=View(ignore=ignore))
    assert one.score == other.score and not other.anomaly_map[:45, :45].any() and other.anomaly_map[60:, 60:].all()
    errors = []
    results = detector.detect(
        [texture(50, 50), image], view=view, on_error=lambda name, error: errors.append(str(error))
    )
    assert "lies outside" in errors[0] and results[0].error and results[1].score == cropped.score
    with pytest.raises(ValueError, match="the mask of where not to look 200x160"):
        detector.detect(texture(50, 50), view=View(ignore=ignore))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tile": 5}, "at least 32 pixels"),
        ({"tile": "small"}, "'small'"),
        ({"overlap": 1}, "between 0 and 0.75"),
        ({"region": (0, 0, 0, 5)}, "left, top, width and height"),
        ({"ignore": np.ones((4, 4), bool)}, "nothing is left to look at"),
    ],
)
def test_views_that_make_no_sense(fields, message):
    with pytest.raises(ValueError, match=message):
        View(**fields)


def test_profiles_of_tiled_photos(detector, tmp_path):
    ignore = np.zeros((100, 260), bool)
    ignore[:20, :20] = True
    view = View(tile=64, same_place=True, region=(10, 10, 240, 80), ignore=ignore)
    normal = [texture(260, 100, seed) for seed in range(12)]
    profile = InspectionProfile.fit(detector, normal, 0.1, view=view, verdict=False)
    again = InspectionProfile.from_pretrained(profile.save_pretrained(tmp_path / "strip"))
    assert again.view.key() == view.key() and again.digest() == profile.digest()
    image = texture(260, 100, 99)
    ImageDraw.Draw(image).rectangle((100, 30, 140, 60), fill=(0, 255, 0))
    one, other = (detector.detect(image, profile=each)[0] for each in (profile, again))
    assert one.score == other.score and one.p_value == other.p_value
    with pytest.raises(ValueError, match="all images must have one size"):
        InspectionProfile.fit(detector, normal, 0.1, view=View(tile=64, same_place=True), verdict=False).update(
            detector, [texture(400, 100)]
        )
    many = InspectionProfile.fit(detector, normal, 0.1, view=View(tile=64), verdict=False)
    assert len(many.prompt_bank) == 64  # of 12 x 10 tiles
    with pytest.raises(ValueError, match="keeps every photo"):
        InspectionProfile.fit(detector, normal, 0.1, view=view, bank_size=3, verdict=False)


def test_the_command_line_takes_a_view(small_folder, tmp_path, capsys):
    for seed, name in enumerate(("good", "part")):
        (tmp_path / name).mkdir()
        texture(200, 90, seed).save(tmp_path / name / "photo.png")
    mask = Image.new("L", (200, 90))
    mask.paste(255, (0, 0, 30, 90))
    mask.save(tmp_path / "mask.png")
    call = [
        "detect",
        str(tmp_path / "part"),
        "--normal",
        str(tmp_path / "good"),
        "--model",
        str(small_folder),
        "--quiet",
    ]
    view = ["--tile", "64", "--overlap", "0.5", "--roi", "10", "0", "150", "90", "--ignore", str(tmp_path / "mask.png")]
    bank = str(tmp_path / "bank.safetensors")
    assert main([*call, *view, "--same-place", "--output", str(tmp_path / "a"), "--save-maps"]) == 0
    saved = np.load(tmp_path / "a" / "maps" / "photo.npy")
    assert saved.shape == (90, 200) and not saved[:, :30].any() and not saved[:, 160:].any() and saved[:, 40:150].all()
    assert main([*call, *view, "--save-prompt-bank", bank, "--output", str(tmp_path / "b")]) == 0
    call = ["detect", str(tmp_path / "part"), "--prompt-bank", bank, "--model", str(small_folder), "--quiet"]
    assert main([*call, "--output", str(tmp_path / "c")]) == 1 and "view is" in capsys.readouterr().err
    assert main([*call, *view, "--output", str(tmp_path / "c")]) == 0
    assert main([*call, "--tile", "7", "--output", str(tmp_path / "d")]) == 1
    assert "at least 32 pixels" in capsys.readouterr().err


def surface(width: int, height: int, seed: int) -> Image.Image:
    """A surface with grain and with clouds of several sizes, as no two good parts are alike."""
    rng = np.random.default_rng(seed)
    values = rng.normal(128, 10, (height, width)).astype(np.float32)
    for size, strength in ((12, 6), (60, 8), (300, 10)):
        coarse = rng.normal(0, strength, (height // size + 1, width // size + 1)).astype(np.float32)
        values += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")


@pytest.mark.slow
def test_a_small_defect_in_a_large_photo_is_found_tiled_and_lost_whole():
    """Six pixels across in 2.2 megapixels, with the embedded model."""
    detector = AnomalyDetector.from_pretrained(DEFAULT_MODEL, device="cpu")
    good, bad = surface(1680, 1295, 3), surface(1680, 1295, 3)  # 4 x 3 tiles
    ImageDraw.Draw(bad).ellipse((1201, 705, 1207, 711), fill=(20, 20, 20))
    higher = {}
    for tile in (518, "whole"):
        view = View(tile=tile)
        bank = detector.remember([surface(1680, 1295, 1)], view=view)
        one, other = detector.detect([good, bad], prompt_bank=bank, view=view)
        anomaly_map = other.anomaly_map
        higher[tile] = (anomaly_map > anomaly_map[690:730, 1190:1225].max()).mean()
        if tile == "whole":
            assert other.score == pytest.approx(one.score, rel=0.05)
        else:
            y, x = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
            assert abs(x - 1204) < 15 and abs(y - 708) < 15
            assert anomaly_map.max() > 1.5 * one.anomaly_map.max() and other.score > one.score
    assert higher[518] == 0 and higher["whole"] > 0.01


@pytest.mark.parametrize(
    ("field", "values"),
    {
        "tile": [64.0, np.float32(64), True, "64", "Auto", None, [64], np.array([64]), 31, np.nan],
        "overlap": ["0.25", np.nan, True, None, 0.76, -0.1],
        "same_place": ["no", 1, 0, None, np.array([True])],
        "region": [(0, 0, 64.0, 64), ("0", "0", "64", "64"), "0064", (0, 0, 64), (True, 0, 64, 64), {0, 1, 2, 3}, 5],
        "ignore": [
            np.zeros((80, 90), np.uint8),
            np.zeros((80, 90, 1), bool),
            [[True, False]] * 2 + [[0.5, 1]],
            "mask.png",
        ],
        "bit_depth": ["10", 7, 17, 10.0, True],
    }.items(),
)
def test_what_a_view_does_not_understand_is_refused(field, values):
    for value in values:
        with pytest.raises(ValueError, match="Expected"):
            View(**{field: value})


def test_numpys_numbers_mean_the_same_view():
    mask = np.zeros((80, 90), bool)
    mask[:40] = True
    plain = View(64, 0.5, True, (1, 2, 60, 70), mask, 10)
    other = View(
        np.int64(64), np.float64(0.5), np.True_, np.array([1, 2, 60, 70]), torch.from_numpy(mask), np.uint8(10)
    )
    assert other.key() == plain.key()
    assert type(other.tile) is int and type(other.region) is tuple and type(other.bit_depth) is int
    assert other.tiles((80, 90), "photo").grid == plain.tiles((80, 90), "photo").grid == (2, 1)
    assert View().key() == '["auto", 0.25, false, null, null]'  # as banks of earlier versions have it


def test_hidden_pixels_are_those_of_the_mask(detector):
    image, mask = texture(90, 80), np.zeros((80, 90), bool)
    mask[:40] = True
    [crop] = View(ignore=mask).tiles((80, 90), "photo").crops(image)
    assert (np.asarray(crop)[mask] == HIDDEN).all() and (np.asarray(crop)[~mask] == np.asarray(image)[~mask]).all()


def test_a_profile_keeps_the_bit_depth_of_its_photos(small_folder, tmp_path, capsys):
    rng, folder = np.random.default_rng(0), tmp_path / "good"
    folder.mkdir()
    for number in range(9):
        Image.fromarray(rng.integers(300, 1000, (90, 90)).astype(np.uint16)).save(folder / f"{number}.png")
    model = ["--model", str(small_folder), "--quiet"]
    call = ["fit", "--no-verdict", "--normal", str(folder), "--false-alarm-rate", "20%", *model, "--bit-depth"]
    assert main([*call, "9", "--output", str(tmp_path / "p")]) == 1
    assert "more than a bit depth of 9 holds" in capsys.readouterr().out
    assert main([*call, "10", "--output", str(tmp_path / "p")]) == 0
    profile = InspectionProfile.from_pretrained(tmp_path / "p")
    assert profile.view.bit_depth == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call = ["detect", str(folder / "0.png"), "--profile", str(tmp_path / "p"), *model, "--output"]
        assert main([*call, str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "results.jsonl").read_text())["among_normals"]
    with pytest.raises(SystemExit):
        main([*call, str(tmp_path / "out"), "--bit-depth", "12"])
    assert "the profile holds what --bit-depth says" in capsys.readouterr().err


def test_the_command_says_once_a_folder_which_bits_are_used(small_folder, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(300, 1000, (90, 90)).astype(np.uint16)).save(tmp_path / f"{number}.png")
    assert main(["detect", str(tmp_path), "--model", str(small_folder), "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.count(f"{tmp_path}: 16-bit files use 0..1023 of 0..65535") == 1
