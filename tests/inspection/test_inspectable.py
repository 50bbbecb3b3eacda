"""Photos that cannot be inspected: named with the reason, and never counted as normal or anomalous."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from transformers import pipeline

from adaptclip_hf import InspectionProfile, View
from adaptclip_hf.cli import main
from adaptclip_hf.engine.appearance import MEASURES, measures
from adaptclip_hf.inspection import Acceptance, Zone
from adaptclip_hf.inspection.inspectable import Inspectable
from adaptclip_hf.synthetic import make_category, render_sample

BLACK_AND_GREY = {"black": (0, "too dark"), "grey": (128, "empty"), "white": (255, "empty")}


@pytest.fixture(scope="module")
def profile(detector, good) -> InspectionProfile:
    return InspectionProfile.fit(detector, good[:20], 0.1, verdict=False, augment="none")


@pytest.fixture(scope="module")
def strange(tmp_path_factory, good) -> dict[str, str]:
    """{why: photo}"""
    folder, photo = tmp_path_factory.mktemp("strange"), Image.open(good[25]).convert("RGB")
    images = {name: Image.new("RGB", photo.size, (value,) * 3) for name, (value, _) in BLACK_AND_GREY.items()}
    images["dark"] = photo.point(lambda value: value // 10)
    images["blurred"] = photo.filter(ImageFilter.GaussianBlur(4))
    for name, image in images.items():
        image.save(folder / f"{name}.png")
    return {name: str(folder / f"{name}.png") for name in images}


def limits(**changed) -> Inspectable:
    usual = {"light": -1.0, "contrast": -1.0, "sharpness": -3.0, "usual": 0.01, "unlike": 0.25}
    return Inspectable(**(usual | changed))


def appearance(light=0.9, contrast=0.9, roughness=0.1, variance=0.1, angle=0.0) -> np.ndarray:
    return np.array([light, contrast, roughness, variance, np.cos(angle), np.sin(angle)], np.float32)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({}, None),
        ({"light": 0.1}, "too dark"),
        ({"contrast": 0.0}, "empty"),
        ({"roughness": 0.001}, None),  # smooth, and with the tokens of a good one
        ({"angle": 0.4}, None),  # a defect: some way off, and sharp
        ({"roughness": 0.001, "angle": 0.4}, "blurred"),
        ({"angle": 1.0}, "unlike the product"),
        ({"roughness": 0.001, "angle": 1.0}, "blurred, or unlike the product"),
    ],
)
def test_each_reason_has_its_measure(seen, reason):
    assert limits().reason(appearance(**seen), torch.tensor([[[1.0, 0.0]]])) == reason


def test_good_photos_set_the_limits_with_a_margin():
    rng = np.random.default_rng(0)
    looks = np.exp(rng.normal(0, 0.5, (12, 4))) * [0.5, 0.4, 0.01, 0.05]
    wholes = torch.tensor([1.0, 0, 0]) + 0.1 * torch.from_numpy(rng.normal(size=(12, 1, 3))).float()
    made = Inspectable.of(looks.tolist(), wholes)
    assert made.light < np.log(looks[:, 0].min()) - 0.5 and made.unlike >= max(0.25, 6 * made.usual)
    assert Inspectable.of(looks[:4].tolist(), wholes[:4]) is None
    assert Inspectable.of([*looks[:11].tolist(), ()], wholes) is None  # of an earlier version


def test_what_is_hidden_does_not_count():
    values = torch.zeros(3, 40, 40)
    values[:, :, 20:] = torch.linspace(0.2, 1, 20)
    mean, deviation = np.zeros((3, 1, 1), np.float32), np.ones((3, 1, 1), np.float32)
    light, contrast, *_ = measures(values, mean, deviation)
    assert light > 0.8 and contrast < 0.8  # without the hidden zeros
    assert measures(torch.zeros(3, 40, 40), mean, deviation) == [0.0] * len(MEASURES)


def test_photos_without_a_part_are_named(profile, detector, good, strange, tmp_path):
    again = InspectionProfile.from_pretrained(profile.save_pretrained(tmp_path / "ring"))
    assert again.inspectable == profile.inspectable and again.digest() == profile.digest()
    results = {name: detector.detect(photo, profile=again)[0] for name, photo in strange.items()}
    for name, (_, reason) in BLACK_AND_GREY.items():
        assert (results[name].label, results[name].reason, results[name].regions) == ("not inspectable", reason, [])
    assert results["dark"].reason == "too dark"
    detect = pipeline("anomaly-detection", model=detector.model, processor=detector.processor)
    for name, photo in strange.items():
        theirs = detect(photo, profile=again)
        assert (theirs["label"], theirs["reason"]) == (results[name].label, results[name].reason)
    for result in detector.detect(good[20:], profile=again):
        assert result.label != "not inspectable"


def test_a_defect_on_the_part_stays_a_defect(profile, detector, good):
    photo = Image.open(good[22]).convert("RGB")
    ImageDraw.Draw(photo).line((20, 20, 70, 66), fill=(255, 0, 0), width=6)
    strict = replace(profile, calibration=replace(profile.calibration, threshold=0.0))  # random weights see little
    [result] = detector.detect(photo, profile=strict)
    assert result.label == "anomalous" and result.reason == "score"


def test_tiles_and_regions_are_judged_too(detector, good, strange):
    view = View(tile=45, region=(0, 0, 90, 88))
    profile = InspectionProfile.fit(detector, good[:12], 0.1, verdict=False, view=view, bank_size=12)
    assert [detector.detect(strange[name], profile=profile)[0].reason for name in ("black", "grey")] == [
        "too dark",
        "empty",
    ]
    assert detector.detect(good[20], profile=profile)[0].label != "not inspectable"


def test_a_profile_without_the_measures_answers_as_before(profile, detector, good, strange, tmp_path):
    folder = profile.save_pretrained(tmp_path / "ring")
    content = json.loads((folder / "profile.json").read_text())
    del content["inspectable"], content["sha256"], content["features_sha256"]
    for photo in content["photos"]:
        del photo["look"]
    (folder / "profile.json").write_text(json.dumps(content))
    older = InspectionProfile.from_pretrained(folder)
    assert older.inspectable is None
    assert detector.detect(strange["black"], profile=older)[0].label in ("normal", "anomalous")
    assert older.update(detector, good[20:22]).inspectable is None  # not all of its photos were looked at
    assert profile.update(detector, good[20:22]).inspectable != profile.inspectable


def test_a_zone_outside_the_photo_is_not_inspected(profile, detector, good):
    acceptance = Acceptance(zones=(Zone("seal", (0, 60, 90, 30)),), usual=(0.1, 0.1))
    [result] = detector.detect(
        Image.open(good[0]).crop((0, 0, 90, 80)), profile=replace(profile, acceptance=acceptance)
    )
    assert (result.label, result.reason) == ("not inspectable", "zone seal lies outside")


def test_a_run_counts_and_names_them(profile, strange, small_folder, good, tmp_path, capsys):
    saved, output = profile.save_pretrained(tmp_path / "ring"), tmp_path / "out"
    words = ["detect", *good[20:26], *strange.values(), "--profile", saved, "--model", small_folder, "--output", output]
    words += ["--no-heatmaps", "--format", "csv", "parquet", "coco", "label-studio"]
    assert main([str(word) for word in (*words, "--false-discovery-rate", "20%")]) == 0
    lines = [json.loads(line) for line in (output / "results.jsonl").read_text().splitlines()]
    unseen = [line for line in lines if line["label"] == "not inspectable"]
    assert {line["reason"] for line in unseen} >= {"too dark", "empty"} and len(unseen) >= 4
    said = capsys.readouterr().out
    assert f", {len(unseen)} not inspectable" in said and f"{strange['black']} (too dark)" in said
    assert not (output / "drift.jsonl").exists()
    coco = json.loads((output / "coco.json").read_text())
    assert {each["label"] for each in coco["images"]} >= {"normal", "not inspectable"}
    assert "too dark" in (output / "results.csv").read_text()
    # what was scored before is counted again
    assert main([str(word) for word in (*words, "--false-discovery-rate", "20%")]) == 0
    assert f", {len(unseen)} not inspectable" in capsys.readouterr().out
    assert main(["report", str(output)]) == 0
    page = (output / "report.html").read_text()
    assert f"<b>{len(unseen)}</b> not inspectable" in page and ">too dark</span>" in page


def test_another_product_is_told(detector, profile):
    category = make_category(2, "circuit board")
    photos = [Image.fromarray(render_sample(category, index, 90, defect=False)[0]) for index in range(3)]
    labels = [result.label for result in detector.detect(photos, profile=profile)]
    assert "normal" not in labels


def test_a_dark_photo_is_not_confirmed_as_good(detector, profile, tmp_path):
    for name, level in (("confirmed", 0), ("other", 2)):
        Image.new("RGB", (90, 90), (level, level, level)).save(tmp_path / f"{name}.png")
    dark = tmp_path / "confirmed.png"
    with pytest.raises(ValueError, match=r"confirmed\.png is too dark: it shows too little of a part"):
        profile.update(detector, confirmed=[dark])
    told = []
    updated = profile.update(detector, confirmed=[dark], on_error=lambda name, error: told.append(name))
    assert told == [str(dark)] and len(updated.features.photos) == len(profile.features.photos)
    [result] = detector.detect(tmp_path / "other.png", profile=updated)
    assert (result.label, result.reason) == ("not inspectable", "too dark")


def test_what_is_unlike_the_product_may_be_confirmed_and_is_named(detector, profile, tmp_path):
    photo = Image.fromarray(render_sample(make_category(2, "circuit board"), 0, 90, defect=False)[0])
    photo.save(tmp_path / "board.png")
    said = []
    updated = profile.update(detector, confirmed=[tmp_path / "board.png"], report=said.append)
    assert len(updated.features.photos) == len(profile.features.photos) + 1
    assert any("board.png: by the profile so far it is" in line and "--undo" in line for line in said)
    assert (updated.inspectable.light, updated.inspectable.contrast) == (
        profile.inspectable.light,
        profile.inspectable.contrast,
    )
