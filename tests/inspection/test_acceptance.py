"""Acceptance by regions: what is the score, what decides, what is told, kept, refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from adaptclip_hf import InspectionProfile
from adaptclip_hf.cli import main
from adaptclip_hf.engine import DetectionResult
from adaptclip_hf.inspection import Acceptance, Zone
from adaptclip_hf.inspection.acceptance import highest_level


def result(anomaly_map: np.ndarray, **more) -> DetectionResult:
    return DetectionResult("x", 0.0, anomaly_map.astype(np.float32), anomaly_map.shape, **more)


def largest(mask: np.ndarray) -> int:
    return int(np.bincount(ndimage.label(mask, np.ones((3, 3)))[0].ravel())[1:].max(initial=0))


@pytest.mark.parametrize("pixels", [1, 2, 30, 700])
def test_the_level_is_the_highest_with_a_region_so_large(pixels):
    rng = np.random.default_rng(pixels)
    anomaly_map = ndimage.gaussian_filter(rng.random((60, 50)), 2).astype(np.float32)
    level = highest_level(anomaly_map, pixels)
    assert largest(anomaly_map > level) >= pixels
    assert largest(anomaly_map > level + 2e-5) < pixels


def test_a_small_high_spot_counts_less_than_a_wide_low_one():
    anomaly_map = np.zeros((40, 40))
    anomaly_map[5:7, 5:7], anomaly_map[20:30, 20:30] = 0.9, 0.4
    assert Acceptance(min_area=5).score(result(anomaly_map)) == pytest.approx(0.4, abs=1e-4)
    assert Acceptance(min_area=4).score(result(anomaly_map)) == pytest.approx(0.9, abs=1e-4)
    assert Acceptance(min_area=101).score(result(anomaly_map)) == 0
    regions, reason = Acceptance(min_area=5, scale=0.5).regions(result(anomaly_map), 0.3)
    assert reason == "area" and [each["box"] for each in regions] == [[20, 20, 10, 10]]
    assert regions[0]["area"] == 100 and regions[0]["area_mm2"] == 25


def test_areas_are_those_of_the_photo_whatever_the_maps_size():
    anomaly_map = np.zeros((37, 37), np.float32)
    anomaly_map[10:20, 10:20] = 0.5
    photo = DetectionResult("x", 0.0, anomaly_map, (370, 370))
    assert Acceptance(min_area=9000).score(photo) > 0.2
    assert Acceptance(min_area=20000).score(photo) == 0
    [region], _ = Acceptance(min_area=9000).regions(photo, 0.1)
    assert region["area"] >= 9000


def test_each_zone_has_its_limit_and_the_one_that_stands_out_decides():
    zones = (Zone("seal", (0, 0, 40, 10), 4), Zone("label", (0, 20, 40, 20), 200))
    acceptance = Acceptance(20, None, zones, usual=(0.1, 0.4, 0.2))
    anomaly_map = np.zeros((40, 40))
    anomaly_map[2:4, 2:4] = 0.3  # large enough for the seal
    anomaly_map[12:14, 2:4] = 0.9  # too small elsewhere
    anomaly_map[22:32, 2:12] = 0.9  # too small on the label
    assert acceptance.score(result(anomaly_map)) == pytest.approx(0.75, abs=1e-3)
    regions, reason = acceptance.regions(result(anomaly_map), 0.6)
    assert reason == "zone seal" and [each["box"] for each in regions] == [[2, 2, 2, 2]]
    # what crosses an edge counts on each side by its part there
    across = np.zeros((40, 40))
    across[9:12, 0:6] = 0.5
    assert acceptance.levels(result(across)) == pytest.approx([0.5, 0, 0], abs=1e-4)


def test_areas_in_square_millimetres():
    acceptance = Acceptance.of(0.5, 0.1, [("seal", (0, 0, 4, 4), 0.021), ("rest", (9, 9, 4, 4), None)])
    assert acceptance.limits() == [3, 50, 50]
    assert "from 50 pixels (0.5 mm²)" in acceptance.describe()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "min_area or zones"),
        ({"min_area": 0}, "above 0"),
        ({"min_area": float("nan")}, "above 0"),
        ({"min_area": 5, "scale": 0.0}, "scale"),
        ({"zones": [("a", (0, 0, 0, 3), None)]}, "Zone a"),
        ({"zones": [("", (0, 0, 3, 3), None)]}, "name"),
        ({"zones": [("a", (0, 0, 3, 3), None)] * 2}, "two zones named a"),
    ],
)
def test_what_is_no_acceptance_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Acceptance.of(**wrong)


@pytest.fixture(scope="module")
def accepting(detector, good) -> InspectionProfile:
    zones = (Zone("seal", (0, 0, 90, 20), 5), Zone("middle", (30, 30, 30, 30)))
    acceptance = Acceptance(40, 0.1, zones)
    return InspectionProfile.fit(detector, good, 0.1, calibration="split", acceptance=acceptance, augment="none")


def test_a_profile_decides_by_the_same_score_that_it_calibrated(accepting, detector, good, tmp_path):
    profile = accepting
    photos = profile.features.photos
    bank = detector.remember([photo.name for photo in photos if photo.role == "bank"], augment="none")
    calibrating = [photo for photo in photos if photo.role == "calibration"]
    for photo in calibrating[:3]:
        [plain] = detector.detect(photo.name, prompt_bank=bank)
        assert photo.score == pytest.approx(profile.acceptance.score(plain), abs=1e-3)
    scores = profile.calibration.scores
    assert profile.calibration.exceeding + 1 <= 0.1 * (len(scores) + 1)
    assert "in zone seal [0, 0, 90, 20] from 5 pixels (0.05 mm²)" in profile.describe()
    assert profile.verdict["pasted"] and all(0 <= s <= 1 for cell in profile.verdict["defects"] for s in cell["scores"])

    again = InspectionProfile.from_pretrained(profile.save_pretrained(tmp_path / "ring"))
    assert again.acceptance == profile.acceptance and again.digest() == profile.digest()
    assert replace(profile, acceptance=None).digest() != profile.digest()
    strange = Image.open(good[0])
    ImageDraw.Draw(strange).rectangle((35, 35, 55, 55), fill=(255, 0, 255))
    [found] = detector.detect(strange, profile=replace_threshold(again, 0.2))
    assert found.label == "anomalous" and found.regions and found.reason.startswith(("zone", "area"))
    assert all(region["area"] >= 5 and region["area_mm2"] > 0 for region in found.regions)
    assert again.decide(found).score == found.score  # decided twice, decided alike


def replace_threshold(profile, threshold):
    return replace(profile, calibration=replace(profile.calibration, threshold=threshold))


def test_an_update_keeps_the_acceptance_or_takes_another(accepting, detector, good):
    updated = accepting.update(detector, drop=[good[0]])
    assert updated.acceptance.zones == accepting.acceptance.zones
    other = accepting.update(detector, acceptance=Acceptance(7))
    assert other.acceptance.limits() == [7]
    plain = accepting.update(detector, acceptance=None)
    assert plain.acceptance is None
    model = max(photo.score for photo in plain.features.photos)
    assert model != max(photo.score for photo in accepting.features.photos)


def test_a_zone_must_lie_in_every_photo(detector, good):
    with pytest.raises(ValueError, match=r"00\.png has 90 x 90 pixels, and zone far ends at 91, 20"):
        InspectionProfile.fit(detector, good, 0.1, acceptance=Acceptance(zones=(Zone("far", (80, 0, 11, 20)),)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"usual": [0.1]}, "usual"),
        ({"min_area": 0}, "min_area"),
        ({"zones": [{"name": "a", "box": [0, 0, 0, 1], "min_area": None}], "usual": [0.1, 0.1]}, "Zone a"),
    ],
)
def test_a_damaged_acceptance_is_refused(accepting, tmp_path, change, said):
    folder = accepting.save_pretrained(tmp_path / "ring")
    file = folder / "profile.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"acceptance": content["acceptance"] | change}))
    with pytest.raises(ValueError, match=f"not a profile.*{said}"):
        InspectionProfile.from_pretrained(folder)


def test_on_the_command_line(small_folder, good, tmp_path, capsys):
    profile = tmp_path / "ring"
    words = ["fit", "--normal", *good[:12], "--false-alarm-rate", "10%", "--no-verdict", "--quiet"]
    words += ["--min-area", "0.4", "--scale", "0.1", "--zone", "seal:0,0,90,20:0.05", "--model", small_folder]
    assert main([str(word) for word in (*words, "--output", profile)]) == 0
    assert "in zone seal [0, 0, 90, 20] from 5 pixels (0.05 mm²); elsewhere from 40 pixels" in capsys.readouterr().out
    kept = json.loads((profile / "profile.json").read_text())["acceptance"]
    assert kept["zones"] == [{"name": "seal", "box": [0, 0, 90, 20], "min_area": 5}]
    assert (kept["min_area"], kept["scale"]) == (40, 0.1)
    assert main(["export", "--profile", str(profile), "--output", str(tmp_path / "out")]) == 1
    assert "decides by the area of regions" in capsys.readouterr().err
    for wrong in (["--zone", "seal:1,2,3"], ["--min-area", "0"], ["--scale", "0.1"]):
        with pytest.raises(SystemExit, match="2"):
            main(["fit", "--normal", good[0], "--output", str(tmp_path / "no"), *wrong])


@pytest.mark.parametrize(
    ("acceptance", "told"),
    [
        (Acceptance(min_area=90 * 90 + 1), "has 8100 pixels, and regions would count from 8101"),
        (Acceptance(zones=(Zone("rim", (0, 0, 5, 5), 26),)), "zone rim has 25 pixels, and regions would count from 26"),
        (Acceptance.of(1e200), "regions would count from 1e"),
    ],
)
def test_an_area_that_no_region_can_have_is_refused(acceptance, told):
    """With it every photo would be normal."""
    with pytest.raises(ValueError, match=told):
        acceptance.require_room((90, 90), "a.png")


@pytest.mark.parametrize("scale", [1e200, 1e-200, 0])
def test_a_scale_out_of_range_is_refused(scale):
    with pytest.raises(ValueError, match="a scale in millimetres"):
        Acceptance.of(4, scale)
