"""Photos that are cut into tiles: whether they lie alike, what each tile is compared with, and how long it takes."""

from dataclasses import replace
from itertools import count, permutations

import numpy as np
import pytest
from PIL import Image

from adaptclip_hf import AnomalyDetector, InspectionProfile, View
from adaptclip_hf.cli import main
from adaptclip_hf.engine.reference import bank_for
from adaptclip_hf.inspection import place_variations
from adaptclip_hf.inspection.estimate import Estimate, about, comparisons
from adaptclip_hf.inspection.fit_settings import FitSettings
from adaptclip_hf.inspection.profile_files import write_profile
from adaptclip_hf.modeling.normal_variation import NormalComparison

TILED = View(tile=84, overlap=0)  # 2 x 2 of them
ORDERS = tuple(permutations(range(4)))


@pytest.fixture(scope="module")
def detector(make_model, small_folder) -> AnomalyDetector:
    model = make_model(clip={"layers": 2}, normal_variation=True, few_shot_adapters=False)
    return AnomalyDetector(model, AnomalyDetector.from_pretrained(small_folder, device="cpu").processor)


def tray(seed: int, order: tuple[int, ...] = ORDERS[0]) -> Image.Image:
    """Four parts of one kind each, in an order."""
    rows, columns = np.mgrid[:84, :84]
    kinds = [60 * np.sin(columns / 4), 60 * np.sin(rows / 4), 60 * np.sin((rows + columns) / 9), 40 + 0 * rows]
    parts = [128 + kinds[kind] for kind in order]
    grey = np.block([[parts[0], parts[1]], [parts[2], parts[3]]]) + np.random.default_rng(seed).normal(0, 6, (168, 168))
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")


ALIKE = [tray(seed) for seed in range(5)]
LOOSE = [tray(seed, ORDERS[7 * seed % 24]) for seed in range(5)]


def fitted(detector, photos, view=TILED, **options) -> tuple[InspectionProfile, list[str]]:
    said: list[str] = []
    settings = {"false_alarm_rate": 0.3, "model": "small", "verdict": False, "report": said.append} | options
    return InspectionProfile.fit(detector, photos, view=view, **settings), said


def test_tiles_of_photos_that_lie_alike_are_compared_at_their_place(detector, tmp_path):
    profile, said = fitted(detector, ALIKE, verdict=True)
    assert profile.view.same_place == "only" and profile.verdict["pasted"] == 40
    [line] = [line for line in said if line.startswith("100% of the good photos' tiles")]
    assert "another size are refused" in line
    prepared = detector.prepare(profile)
    for tile in TILED.tiles((168, 168), "tray"):
        there = bank_for(prepared, tile)
        rows = range(tile.number, 20, 4)
        assert all(
            np.array_equal(one, other[rows])
            for one, other in zip(there.features, prepared.prompt_bank.features, strict=True)
        )
    again = InspectionProfile.from_pretrained(profile.save_pretrained(tmp_path / "trays"))
    swapped = tray(9, ORDERS[-1])  # each part where another one belongs
    [good], [bad], [same] = (
        detector.detect(image, profile=each)
        for image, each in ((tray(9), profile), (swapped, profile), (swapped, again))
    )
    assert good.score < bad.score == same.score and bad.label == "anomalous"
    with pytest.raises(ValueError, match="all images must have one size"):
        detector.detect(tray(9).resize((252, 168)), profile=again)
    assert again.update(detector, [tray(6)]).view.key() == again.view.key()


@pytest.mark.parametrize("same_place", [True, "only"])
def test_how_places_vary_is_kept(detector, tmp_path, monkeypatch, same_place):
    """So that no start compares all normal tiles with one another anew."""
    view = View(tile=84, overlap=0, same_place=same_place)
    folder = fitted(detector, ALIKE, view)[0].save_pretrained(tmp_path / "trays")
    again = InspectionProfile.from_pretrained(folder)
    [expected] = detector.detect(tray(9), profile=replace(again, variations=()))  # as an earlier version wrote it
    monkeypatch.setattr(NormalComparison, "of", None)
    [found] = detector.detect(tray(9), profile=again)
    assert found.score == expected.score and np.array_equal(found.model_map, expected.model_map)
    for change in ({"places.mean": lambda tensor: tensor[:3]}, {"places.spread": lambda tensor: -tensor}):
        with pytest.raises(ValueError, match=r"places|variation"):
            changed(again, change, tmp_path / "changed")


def changed(profile: InspectionProfile, change: dict, folder):
    """Reads the profile with some tensors that are changed."""
    variations = place_variations.packed(profile.variations)
    tensors = {name: change.get(name, lambda tensor: tensor)(tensor) for name, tensor in variations.items()}
    write_profile(folder, profile.contents(), profile.features.tensors | tensors)
    InspectionProfile.from_pretrained(folder)


def test_tiles_of_loose_parts_are_compared_with_all(detector):
    profile, said = fitted(detector, LOOSE)
    assert profile.view.same_place is False and any("with tiles of all places" in line for line in said)
    assert profile.view.key() == View(tile=84, overlap=0, same_place=False).key()
    [swapped] = detector.detect(tray(9, ORDERS[-1]), profile=profile)
    assert swapped.label == "normal"


@pytest.mark.parametrize(
    ("view", "options"),
    [
        (TILED, {"bank_size": 8}),
        (TILED, {"augment": "rotations"}),
        (View(tile=84, overlap=0, same_place=False), {}),
        (View(), {}),
    ],
)
def test_what_needs_all_places_is_left_as_it_was(detector, view, options):
    profile, said = fitted(detector, ALIKE, view, **options)
    assert profile.view.same_place is False and not any("own place" in line for line in said)


def test_photos_of_several_sizes_are_compared_with_all(detector):
    profile, _ = fitted(detector, [*ALIKE, tray(8).resize((252, 168))])
    assert profile.view.same_place is False


def test_the_command_line_says_which_places(small_folder, tmp_path, capsys):
    (tmp_path / "good").mkdir()
    for number, image in enumerate(ALIKE):
        image.save(tmp_path / "good" / f"{number}.png")
    call = ["fit", "--normal", str(tmp_path / "good"), "--false-alarm-rate", "30%", "--no-verdict", "--quiet"]
    call += ["--model", str(small_folder), "--tile", "84", "--overlap", "0"]
    for places, expected in (((), "only"), (("--same-place",), True), (("--any-place",), False)):
        folder = tmp_path / str(expected)
        assert main([*call, *places, "--output", str(folder)]) == 0
        assert InspectionProfile.from_pretrained(folder).view.same_place == expected
        assert ("5 photos of 4 tiles: less than a minute" in capsys.readouterr().out) is True
    with pytest.raises(SystemExit):
        main([*call, "--same-place", "--any-place", "--output", str(tmp_path / "both")])
    for option in ("--same-place", "--any-place"):
        with pytest.raises(SystemExit):
            main(["detect", str(tmp_path / "good"), "--profile", str(tmp_path / "only"), option])
        assert f"the profile holds what {option} says" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("view", "number", "expected"),
    [
        (TILED, 20, "20 photos of 4 tiles: about 10 minutes where they lie alike, else 16 minutes"),
        (View(tile=84, overlap=0, same_place=True), 20, "20 photos of 4 tiles: about 19 minutes"),
        (View(tile=84, overlap=0, same_place=False), 20, "20 photos of 4 tiles: about 16 minutes"),
        (View(), 20, None),
        (TILED, None, None),
    ],
)
def test_the_time_is_told_once_the_first_photo_is_encoded(detector, monkeypatch, view, number, expected):
    """Ten seconds a photo and a twentieth of a second a comparison."""
    said: list[str] = []
    clock = count(step=10)
    monkeypatch.setattr(Estimate, "seconds_a_comparison", lambda self: 0.05)
    estimate = Estimate(detector, view, FitSettings(), number, said.append, lambda: next(clock))
    for image in ALIKE[:3]:
        estimate(detector.reader.load(image, view))
    assert said == ([] if expected is None else [expected])


def test_how_many_tiles_are_compared():
    tiles = View(tile=84, overlap=0).tiles((252, 336), "tray")  # 3 x 4, which have 4, 6 or 9 places at and beside them
    compared = 12 * 20 * 20
    beside = (4 * 4 + 6 * 6 + 2 * 9) / 12
    assert comparisons(20, tiles, None) == (compared + 80 * 20, compared + round(320 * 20 * beside), 320 * 64)
    assert comparisons(20, tiles, 8)[2] == 320 * 8
    assert [about(seconds) for seconds in (3, 50, 61)] == ["less than a minute", "about 1 minute", "about 2 minutes"]
