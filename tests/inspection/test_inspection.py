"""Profiles: photos of good parts in, decisions out; kept, read, brought up to date, refused."""

import csv
import json
import os
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from commands import CLI, start_python
from PIL import Image, ImageDraw
from scipy import ndimage
from small_profiles import inspects_all
from transformers import pipeline

from adaptclip_hf import DEFAULT_MODEL, AnomalyDetector, InspectionProfile, View
from adaptclip_hf.cli import main
from adaptclip_hf.inspection import Calibration, photo_features
from adaptclip_hf.inspection.regions import crosses_itself, find_regions
from adaptclip_hf.inspection.split import Split
from adaptclip_hf.synthetic import make_category, render_sample


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> list[str]:
    """Twelve photos of something else altogether, which even random weights tell apart."""
    folder, rng = tmp_path_factory.mktemp("bad"), np.random.default_rng(0)
    for index in range(12):
        image = Image.fromarray(rng.integers(0, 255, (90, 90, 3), dtype=np.uint8))
        ImageDraw.Draw(image).rectangle((20, 20, 50, 40), fill=(255, 0, 255))
        image.save(folder / f"{index:02}.png")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def profile(detector, good) -> InspectionProfile:
    fitted = InspectionProfile.fit(detector, good, 0.1, calibration="split", verdict=False)
    return replace(fitted, inspectable=None)  # the bad photos are something else altogether


def test_split_photos_never_calibrate_what_they_are_compared_with(profile, detector, good):
    roles = Counter(photo.role for photo in profile.features.photos)
    assert roles == {"bank": 11, "calibration": 19} and profile.method == "split"
    assert "none of them in the bank" in profile.describe() and "promise: exact" in profile.describe()
    assert len(profile.prompt_bank) == 11 and len(profile.calibration.scores) == 19
    by_hand = detector.remember(photo.name for photo in profile.features.photos if photo.role == "bank")
    for photo in profile.features.photos:
        if photo.role == "calibration":
            [result] = detector.detect(photo.name, prompt_bank=by_hand)
            assert photo.score == pytest.approx(result.score, abs=1e-4)
            assert photo.peak == pytest.approx(result.model_map.max(), abs=1e-4)


def test_leave_one_out_compares_each_with_the_others(detector, good):
    profile = InspectionProfile.fit(detector, good[:19], 0.05, verdict=False)
    assert profile.method == "leave-one-out" and "promise: measured, not exact" in profile.describe()
    assert len(profile.prompt_bank) == len(profile.calibration.scores) == 19
    others = detector.remember(good[1:19])
    [result] = detector.detect(good[0], prompt_bank=others)
    assert profile.features.photos[0].score == pytest.approx(result.score, abs=1e-4)


def test_cross_compares_each_with_the_other_folds_and_wastes_no_photo(detector, good, tmp_path):
    profile = InspectionProfile.fit(detector, good[:12], 0.1, calibration="cross", storage="float32")
    assert profile.method == "cross" and "each against the bank without its fold" in profile.describe()
    assert len(profile.prompt_bank) == len(profile.calibration.scores) == 12
    photos = profile.features.photos
    folds = Split("cross", 12, 12).folds(photos, profile.settings.seed)
    others = detector.remember(photo.name for number, photo in enumerate(photos) if number not in folds[0])
    for number in folds[0]:
        [result] = detector.detect(photos[number].name, prompt_bank=others)
        assert photos[number].score == pytest.approx(result.score, abs=1e-4)
    again = InspectionProfile.from_pretrained(profile.save_pretrained(tmp_path / "ring"))
    assert (again.method, again.digest()) == ("cross", profile.digest())
    updated = again.update(detector, good[12:15])
    assert updated.method == "cross" and len(updated.calibration.scores) == 15


@pytest.mark.parametrize("method", ["split", "cross", "leave-one-out"])
def test_with_normal_variation_each_is_scored_as_against_the_bank_of_the_others(method, make_model, detector, good):
    """The comparisons that were made already give the scores, maps and variation of each part of the bank."""
    by_distance = AnomalyDetector(make_model(normal_variation=True, few_shot_adapters=False), detector.processor)
    profile = InspectionProfile.fit(by_distance, good[:9], 0.2, calibration=method, storage="float32")
    photos = profile.features.photos
    folds = Split(method, len(profile.prompt_bank), 9).folds(photos, profile.settings.seed)
    for fold in (folds[0], folds[-1]):
        kept = [p.name for number, p in enumerate(photos) if number not in fold and p.role in ("bank", "both")]
        for photo in (photos[number] for number in fold):
            [result] = by_distance.detect(photo.name, prompt_bank=by_distance.remember(kept, augment="none"))
            assert photo.score == pytest.approx(result.score, abs=1e-5) and photo.score > 0
            assert photo.peak == pytest.approx(result.model_map.max(), abs=1e-5)


def test_results_gain_p_value_label_and_regions(profile, detector, bad, small_folder):
    results = detector.detect(bad, profile=profile, batch_size=4)
    for result in results:
        assert result.p_value == profile.calibration.p_values(result.score)
        assert result.label == ("anomalous" if result.p_value <= 0.1 else "normal")
        assert bool(result.regions) == (result.label == "anomalous")
    assert Counter(result.label for result in results)["anomalous"] >= 10
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    for result, theirs in zip(results, detect(bad, profile=profile, batch_size=3), strict=True):
        assert theirs["score"] == pytest.approx(result.score, abs=1e-6)
        assert (theirs["label"], theirs["p_value"]) == (result.label, result.p_value)
        assert [each["box"] for each in theirs["regions"]] == [each["box"] for each in result.regions]
    assert detect(bad[0], profile=profile)["label"] == results[0].label


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_saved_and_read_it_decides_the_same(storage, detector, good, bad, tmp_path):
    profile = InspectionProfile.fit(
        detector, good[:12], 0.1, bad[:4], storage=storage, view=View(overlap=0.5), verdict=False
    )
    folder = profile.save_pretrained(tmp_path / "ring")
    again = InspectionProfile.from_pretrained(folder)
    assert again.digest() == profile.digest() and again.describe() == profile.describe()
    assert {file.suffix for file in folder.iterdir()} == {".json", ".safetensors"}
    before, after = (
        [(each.score, each.label) for each in detector.detect(bad, profile=each)] for each in (profile, str(folder))
    )
    assert before == after
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    assert (
        size < {"float32": 1.1, "float16": 0.6, "int8": 0.4}[storage] * 4 * 16 * 37 * 4 * 32
    )  # photos, tokens, layers


def test_known_defects_tell_escapes_and_may_choose(detector, good, bad):
    profile = InspectionProfile.fit(detector, good[:20], 0.1, bad[:10], verdict=False)
    told = profile.escapes()
    missed = sum(
        photo.score <= profile.calibration.threshold for photo in profile.features.photos if photo.role == "defect"
    )
    assert told["defects"] == 10 and told["missed"] == missed and "known defects stay unseen" in profile.describe()
    assert len(profile.prompt_bank) == 20  # none of the defects is in the bank
    by_f1 = InspectionProfile.fit(detector, good[:20], 0.1, bad[:10], choice="f1", verdict=False)
    assert by_f1.calibration.threshold != profile.calibration.threshold and "best F1" in by_f1.describe()
    with pytest.raises(ValueError, match="takes photos of defects"):
        InspectionProfile.fit(detector, good[:20], 0.1, choice="escapes", verdict=False)
    with pytest.raises(ValueError, match="10 defects cannot carry an escape rate of 5 %: 19 are needed"):
        InspectionProfile.fit(detector, good[:20], 0.1, bad[:10], choice="escapes", verdict=False)


def test_too_few_photos_are_refused_with_the_number(detector, good):
    def stream_nothing(*args, **kwargs):
        raise AssertionError("refused before anything is encoded")

    for count, rate, needed in ((4, 0.01, 99), (1, 0.05, 19), (18, 0.05, 19)):
        with pytest.raises(ValueError, match=f"{count} good photos? cannot carry .* takes {needed}"):
            InspectionProfile.fit(detector, good[:count], rate, verdict=False)
        with pytest.raises(ValueError, match=f"takes {needed}"):
            InspectionProfile.fit(detector, iter(good[:count]), rate, verdict=False)


def test_photos_that_teach_nothing_are_named(detector, good, tmp_path):
    said = []
    profile = InspectionProfile.fit(detector, [*good[:12], good[3], good[3]], 0.1, report=said.append, verdict=False)
    assert len(profile.features.photos) == 12 and sum("is a copy of" in line for line in said) == 2
    same = Image.open(good[0])
    with pytest.raises(ValueError, match="1 good photo cannot carry"):
        InspectionProfile.fit(detector, [same.copy() for _ in range(12)], 0.1, verdict=False)
    nearly = []
    for index in range(12):  # one photo taken again and again
        nearly.append(np.asarray(same).copy())
        nearly[-1][0, index] ^= 1
    with pytest.raises(ValueError, match="all alike"):
        InspectionProfile.fit(detector, nearly, 0.1, verdict=False)


def test_a_defect_among_the_good_is_named(tmp_path):
    detector, category = AnomalyDetector.from_pretrained(DEFAULT_MODEL, device="cpu"), make_category(5, "metal ring")
    pictures = [Image.fromarray(render_sample(category, index, 120, defect=False)[0]) for index in range(12)]
    defect = tmp_path / "defect.png"
    Image.fromarray(render_sample(category, 3, 120, defect="crack")[0]).save(defect)
    said = []
    profile = InspectionProfile.fit(detector, [*pictures, defect], 0.1, report=said.append, verdict=False)
    assert [suspect.name for suspect in profile.suspects()] == [str(defect)]
    assert any(str(defect) in line and "becomes the standard" in line for line in said)
    without = profile.update(detector, drop=[defect])
    assert str(defect) not in [suspect.name for suspect in without.suspects()] and len(without.features.photos) == 12


def test_its_own_photos_are_said(profile, detector, good, tmp_path):
    copy = tmp_path / "again.png"
    copy.write_bytes(Path(good[4]).read_bytes())
    assert all(each.among_normals for each in detector.detect([*good[:6], copy], profile=profile))


def test_one_broken_photo_does_not_stop_it(detector, good, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    named = []
    profile = InspectionProfile.fit(
        detector, [*good[:12], str(broken)], 0.1, on_error=lambda name, error: named.append(name), verdict=False
    )
    assert named == [str(broken)] and len(profile.features.photos) == 12
    with pytest.raises(ValueError, match=r"broken\.png"):
        InspectionProfile.fit(detector, [*good[:12], str(broken)], 0.1, verdict=False)


def test_confirmed_false_alarms_join_the_bank_and_never_calibrate(profile, detector, good, bad):
    [before] = detector.detect(bad[0], profile=profile)
    said = []
    updated = profile.update(detector, confirmed=[bad[0], bad[0]], report=said.append, on_error=None, progress=False)
    assert any("is a copy of" in line for line in said)
    assert before.label == "anomalous" and updated.features.photos[-1].role == "confirmed"
    assert len(updated.prompt_bank) == 12 and len(updated.calibration.scores) == 19
    [again] = detector.detect(bad[0], profile=updated)
    assert again.label == "normal" and again.among_normals
    more = updated.update(detector, good[:5], false_alarm_rate=0.2)  # copies of what is there
    assert len(more.features.photos) == 31 and more.settings.false_alarm_rate == 0.2
    with pytest.raises(ValueError, match=r"no photo nothing\.png"):
        profile.update(detector, drop=["nothing.png"])


def test_another_model_is_refused_by_name(profile, detector, make_model, tmp_path):
    other = AnomalyDetector(make_model(seed=3), detector.processor)
    with pytest.raises(ValueError, match=r"made with another model.*weights is"):
        other.detect("part.png", profile=profile)
    resized = AnomalyDetector(make_model(image_size=56), detector.processor)
    with pytest.raises(ValueError, match="image_size is 84, this one's is 56"):
        resized.detect("part.png", profile=profile)
    with pytest.raises(ValueError, match="give it alone"):
        detector.detect("part.png", profile=profile, threshold=0.1)


def test_folders_without_a_profile_are_named(tmp_path, profile):
    with pytest.raises(FileNotFoundError, match=r"profile\.json"):
        InspectionProfile.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="No profile at"):
        InspectionProfile.from_pretrained(tmp_path / "nowhere")
    folder = profile.save_pretrained(tmp_path / "damaged")
    content = json.loads((folder / "profile.json").read_text())
    features = folder / content["features"]
    whole = features.read_bytes()
    features.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is not a profile"):
        InspectionProfile.from_pretrained(folder)
    features.write_bytes(whole)
    (folder / "profile.json").write_text(json.dumps(content | {"format": 9}))
    with pytest.raises(ValueError, match="format 9"):
        InspectionProfile.from_pretrained(folder)
    profile.save_pretrained(folder)  # over a damaged one
    assert len(list(folder.glob("*.safetensors"))) == 1


def test_regions_in_the_images_own_pixels():
    anomaly_map = np.zeros((40, 60), np.float32)
    anomaly_map[5:15, 10:30] = 0.5
    anomaly_map[8:10, 12:14] = 0.1  # a hole
    anomaly_map[30:32, 50:60] = 0.9  # at the edge
    edge, block = find_regions(anomaly_map, 0.3)
    assert edge["box"] == [50, 30, 10, 2] and block["box"] == [10, 5, 20, 10]
    assert (edge["area"], block["area"]) == (20, 196) and block["share"] == 196 / 2400
    assert edge["peak"] == pytest.approx(0.9) and block["mean"] == pytest.approx(0.5) and block["significant"]
    for region in (edge, block):
        x, y, width, height = region["box"]
        points = np.array(region["polygon"])
        assert (points >= (x, y)).all() and (points <= (x + width, y + height)).all()
        assert polygon_area(points) == pytest.approx(width * height, rel=0.1)
    [likely] = find_regions(anomaly_map, 0.95)
    assert likely["box"] == edge["box"] and not likely["significant"]
    assert find_regions(np.zeros((8, 8), np.float32), 0.3) == []
    whole = find_regions(np.ones((8, 9), np.float32), 0.3)
    assert whole[0]["box"] == [0, 0, 9, 8] and len(whole) == 1


def test_a_region_reaches_as_far_as_its_defect():
    """A crack: high in places, lower in between, and a good place that is as high as the lower parts."""
    rows, columns = np.mgrid[:60, :100]
    crack = np.exp(-(((rows - 20 - columns / 5) / 3) ** 2)) * (0.45 + 0.2 * np.cos(columns / 8))
    anomaly_map = (0.05 + np.where((columns > 10) & (columns < 90), crack, 0)).astype(np.float32)
    anomaly_map[50:55, 5:9] = 0.38
    [found] = find_regions(anomaly_map, 0.4)
    x, _, width, height = found["box"]
    assert x == pytest.approx(11, abs=1) and x + width == pytest.approx(90, abs=3) and 20 < height < 30
    for size in ((60, 100), (600, 1500)):
        [region] = find_regions(anomaly_map, 0.4, size)
        points = np.array(region["polygon"])
        assert 6 < len(points) < 40 and not crosses_itself(points)
        box = np.array(region["box"])
        assert (points >= box[:2]).all() and (points <= box[:2] + box[2:]).all() and (box >= 0).all()
        assert polygon_area(points) == pytest.approx(region["area"], rel=0.12)


@pytest.mark.parametrize("sigma", [0.8, 2, 5])
def test_outlines_of_any_map_are_valid(sigma):
    rng = np.random.default_rng(0)
    for _ in range(10):
        anomaly_map = ndimage.gaussian_filter(rng.random((50, 70)), sigma)
        anomaly_map -= anomaly_map.min()
        for region in find_regions(anomaly_map / anomaly_map.max(), 0.8, (501, 333)):
            points, box = np.array(region["polygon"]), np.array(region["box"])
            assert len(points) >= 3 and not crosses_itself(points)
            assert (points >= box[:2]).all() and (points <= box[:2] + box[2:]).all()
            assert (box[:2] >= 0).all() and box[0] + box[2] <= 333 and box[1] + box[3] <= 501
    square, bow = [(0, 0), (4, 0), (4, 4), (0, 4)], [(0, 0), (4, 4), (4, 0), (0, 4)]
    crenel = [(0, 0), (6, 0), (6, 2), (4, 2), (4, 1), (2, 1), (2, 2), (0, 2)]  # two sides on one line, apart
    assert [crosses_itself(np.array(each)) for each in (square, bow, crenel)] == [False, True, False]


def polygon_area(points) -> float:
    xs, ys = np.transpose(points)
    return abs(np.dot(xs, np.roll(ys, 1)) - np.dot(ys, np.roll(xs, 1))) / 2


def test_the_command_line_from_photos_to_annotations(small_folder, good, bad, tmp_path, capsys):
    ring, day = tmp_path / "ring", tmp_path / "day"
    fit = ["fit", "--normal", *good, "--false-alarm-rate", "10%", "--model", str(small_folder), "--quiet"]
    assert main([*fit, "--calibration", "split", "--output", str(ring)]) == 0
    assert "false alarms: at most 10 % on average" in capsys.readouterr().out
    assert main([*fit, "--output", str(ring)]) == 1 and "--overwrite" in capsys.readouterr().err
    detect = ["detect", *bad, good[0], "--profile", str(ring), "--output", str(day), "--quiet"]
    prefixed = ["--label-studio-prefix", "/data/local-files/?d=", "--label-studio-root", str(Path(bad[0]).parent)]
    assert main([*detect, "--format", "coco", "label-studio", "csv", "regions", *prefixed]) == 1
    assert "--label-studio-root" in capsys.readouterr().err  # the good photos lie elsewhere
    prefixed[-1] = os.path.commonpath([Path(each).parent for each in (*bad, good[0])])
    assert main([*detect, "--format", "coco", "label-studio", "csv", "regions", *prefixed]) == 0
    lines = [json.loads(line) for line in (day / "results.jsonl").read_text().splitlines()]
    assert lines[-1]["among_normals"] and not lines[0]["among_normals"]
    assert all(line["p_value"] and line["label"] and line["regions"] is not None for line in lines)
    coco = json.loads((day / "coco.json").read_text())
    anomalous = [line for line in lines if line["label"] == "anomalous"]
    assert len(coco["images"]) == 13 and len(coco["annotations"]) == sum(len(line["regions"]) for line in anomalous)
    assert coco["annotations"][0]["bbox"] == anomalous[0]["regions"][0]["box"]
    tasks = json.loads((day / "label-studio.json").read_text())
    marks = tasks[0]["predictions"][0]["result"]
    assert marks[0]["value"]["choices"] == [lines[0]["label"]] and marks[1]["original_width"] == 90
    assert all(0 <= value <= 100 for point in marks[1]["value"]["points"] for value in point)
    within = Path(lines[0]["path"]).relative_to(prefixed[-1])
    assert tasks[0]["data"]["image"] == f"/data/local-files/?d={quote(str(within))}"
    table = list(csv.DictReader((day / "results.csv").open(encoding="utf-8-sig")))
    assert [each["regions"] for each in table] == [str(len(line["regions"])) for line in lines]
    largest = max(anomalous[0]["regions"], key=lambda region: region["area"])
    [row] = [each for each in table if each["path"] == anomalous[0]["path"]]
    assert [int(row[f"largest_{each}"]) for each in ("x", "y", "width", "height", "area")] == [
        *largest["box"],
        largest["area"],
    ]
    of_regions = list(csv.DictReader((day / "regions.csv").open(encoding="utf-8-sig")))
    assert len(of_regions) == len(coco["annotations"])
    assert [float(each["peak"]) for each in of_regions] == [each["score"] for each in coco["annotations"]]
    # another day, a false alarm taken back
    alarm = anomalous[0]["path"]
    assert main(["fit", "--no-verdict", "--update", str(ring), "--confirmed", alarm, "--quiet"]) == 0
    assert main(detect) == 1 and "profile" in capsys.readouterr().err  # it is another profile now
    assert main([*detect, "--overwrite"]) == 0
    [again] = [
        each for each in map(json.loads, (day / "results.jsonl").read_text().splitlines()) if each["path"] == alarm
    ]
    assert again["label"] == "normal"
    assert not (day / "coco.json").exists()  # of the results before


def test_labels_of_many_at_once(small_folder, good, bad, tmp_path, capsys):
    ring, day = tmp_path / "ring", tmp_path / "day"
    main(
        [
            "fit",
            "--no-verdict",
            "--normal",
            *good,
            "--false-alarm-rate",
            "0.1",
            "--model",
            str(small_folder),
            "--output",
            str(ring),
            "--quiet",
        ]
    )
    inspects_all(ring)
    call = ["detect", *bad, *good[:3], "--profile", str(ring), "--output", str(day), "--no-heatmaps"]
    capsys.readouterr()
    assert main([*call, "--false-discovery-rate", "20%"]) == 0
    said = capsys.readouterr().out
    lines = [json.loads(line) for line in (day / "results.jsonl").read_text().splitlines()]
    called = [line for line in lines if line["label"] == "anomalous"]
    ordered = sorted(line["p_value"] for line in lines)
    largest = max(p for rank, p in enumerate(ordered, 1) if p <= 0.2 * rank / len(ordered))
    assert called and {line["path"] for line in called} == {
        line["path"] for line in lines if line["p_value"] <= largest
    }
    for line in sorted(lines, key=lambda line: -line["score"])[:10]:  # the summary has the labels of the rows
        place = f"good photos (p {line['p_value']:.3f}"
        [told] = [each for each in said.splitlines() if each.endswith(f"  {line['path']}") and place in each]
        assert told.startswith(f"  {line['score']:.4f}  {line['label']:9}  above ")


def test_a_profile_travels_without_the_bank_that_its_features_make(small_folder, good, bad):
    detector = AnomalyDetector.from_pretrained(small_folder)
    profile = InspectionProfile.fit(detector, good, 0.1, verdict=False)
    fresh, before = len(pickle.dumps(profile)), detector.detect(bad, profile=profile)
    copy = pickle.loads(pickle.dumps(profile))
    assert len(pickle.dumps(profile)) == fresh and detector.detect(bad, profile=copy) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    {
        "--normal PATH": (2, "--output FOLDER is needed"),
        "--output x": (2, "--normal PATH... is needed"),
        "--normal PATH --output x --false-alarm-rate 7": (2, "expected a rate between 0 and 1"),
        "--normal PATH --output x --drop a": (2, "name it with --update"),
        "--update x --tile 64": (2, "--tile is the profile's own"),
        "--update nowhere": (1, "No profile at nowhere"),
        "--normal PATH --output x --false-alarm-rate 1%": (1, "1 good photo cannot carry a false-alarm rate of 1 %"),
        "--normal EMPTY --output x": (1, "holds no image file"),
    }.items(),
)
def test_wrong_calls_of_fit(words, expected, good, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    words = words.replace("PATH", good[0]).replace("EMPTY", "empty").split()
    try:
        status = main(["fit", "--no-verdict", *words, "--quiet"])
    except SystemExit as stop:
        status = stop.code
    assert (status, expected[1] in capsys.readouterr().err) == (expected[0], True)


@pytest.mark.parametrize(
    ("words", "expected"),
    {
        "--profile p --threshold 0.5": "the profile holds what --threshold says",
        "--profile p --tile 64": "the profile holds what --tile says",
        "--false-discovery-rate 0.1": "takes a --profile",
        "other --watch": "--watch takes one folder",
        "--profile p --watch --false-discovery-rate 0.1": "never has them all",
    }.items(),
)
def test_wrong_calls_of_detect(words, expected, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["detect", "folder", *words.split()])
    assert stop.value.code == 2 and expected in capsys.readouterr().err


def test_numbers_of_numpy_can_be_saved(detector, good, tmp_path):
    rate, seed = np.float32(0.1), np.int64(3)
    profile = InspectionProfile.fit(detector, good[:12], rate, seed=seed, model=Path("elsewhere/model"), verdict=False)
    again = InspectionProfile.from_pretrained(profile.save_pretrained(tmp_path / "ring"))
    assert again.settings == profile.settings and again.settings.false_alarm_rate == 0.1 and again.settings.seed == 3
    updated = again.update(detector, good[12:14], false_alarm_rate=np.float64(0.2), seed=np.uint8(1))
    assert InspectionProfile.from_pretrained(updated.save_pretrained(tmp_path / "ring")).settings == updated.settings


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(false_alarm_rate=float("nan")), "false_alarm_rate between 0 and 1"),
        (dict(choice="f1"), "takes photos of defects"),
        (dict(choice="escapes", defects=["a.png"] * 3), "3 defects cannot carry an escape rate of 5 %: 19 are needed"),
        (dict(object_name=3), "object_name that is a word"),
        (dict(object_name="very " * 38 + "thing"), "tokens"),
        (dict(view="auto"), "Expected a View, got str"),
        (dict(view=View(same_place=True), bank_size=3), "leave bank_size out"),
        (dict(model=3), "name, folder or Hub id of a model"),
        (dict(defects=["."]), "is a folder: give its photos"),
    ],
)
def test_what_cannot_end_in_a_profile_is_refused_before_the_photos(options, expected, detector, good, monkeypatch):
    def encoded(*arguments):
        raise AssertionError("refused before anything is encoded")

    monkeypatch.setattr("adaptclip_hf.inspection.fitting.encode_photos", encoded)
    with pytest.raises(ValueError, match=expected):
        InspectionProfile.fit(detector, good[:20], **options, verdict=False)


def test_one_photo_or_name_is_no_list_of_letters(profile, detector, bad):
    updated = profile.update(detector, confirmed=bad[0])
    assert updated.features.photos[-1].name == bad[0] and updated.features.photos[-1].role == "confirmed"
    assert bad[0] not in [photo.name for photo in updated.update(detector, drop=bad[0]).features.photos]
    with pytest.raises(ValueError, match="is a folder: give its photos"):
        InspectionProfile.fit(detector, str(Path(bad[0]).parent), verdict=False)


def test_near_copies_are_named_and_left_out(detector, good, tmp_path):
    small = [tmp_path / f"{number}.jpg" for number in range(6)]
    for path, photo in zip(small, good, strict=False):
        Image.open(photo).convert("RGB").resize((64, 64)).save(path, quality=80)
    said = []
    profile = InspectionProfile.fit(detector, [*map(str, small), *good], 0.1, report=said.append, verdict=False)
    named = [line for line in said if "is a near copy of" in line]
    assert len(named) == 6 and all("the same picture, 64x64 of 90x90 pixels" in line for line in named)
    assert sorted(photo.name for photo in profile.features.photos) == good
    again = InspectionProfile.from_pretrained(profile.save_pretrained(tmp_path / "ring"))
    said.clear()
    updated = again.update(detector, [str(small[0])], report=said.append)
    assert len(updated.features.photos) == 30 and f"{small[0]} is a near copy of {good[0]}" in said[0]


def test_a_threshold_below_all_good_photos_is_written_and_read(profile, detector, bad, tmp_path):
    lowest = replace(profile, calibration=Calibration(profile.calibration.scores, 0.0))
    again = InspectionProfile.from_pretrained(lowest.save_pretrained(tmp_path / "ring"))
    assert "at most 100 % on average, below 100 % with 95 % certainty" in again.describe()
    assert all(result.label == "anomalous" for result in detector.detect(bad, profile=again))
    day = tmp_path / "day"
    call = ["detect", *bad, "--profile", str(tmp_path / "ring"), "--model", profile.model, "--output", str(day)]
    assert main([*call, "--no-heatmaps", "--quiet"]) == 0 and main(["report", str(day)]) == 0


def test_a_score_that_is_no_number_is_never_normal(profile, detector, good):
    [result] = detector.detect(good[0], profile=profile)
    with pytest.raises(ValueError, match="scores that are finite numbers, got nan"):
        profile.decide(replace(result, score=float("nan")))


def test_a_discovery_rate_that_calls_nothing_is_refused_before_scoring(profile, good, tmp_path, capsys):
    profile.save_pretrained(tmp_path / "ring")
    call = ["detect", *good, "--profile", str(tmp_path / "ring"), "--model", profile.model]
    output = tmp_path / "day"
    assert main([*call, "--output", str(output), "--false-discovery-rate", "1%", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "With 19 calibrating photos no p-value is below 5 %" in said and "it takes 99" in said
    assert not output.exists()


def test_an_output_that_cannot_be_written_is_refused_before_the_fit(small_folder, good, tmp_path, monkeypatch, capsys):
    def loaded(*arguments, **more):
        raise AssertionError("refused before the model is loaded")

    monkeypatch.setattr("adaptclip_hf.cli.argument_types.load_detector", loaded)
    (tmp_path / "file").write_text("")
    assert main(["fit", "--no-verdict", "--normal", *good, "--output", str(tmp_path / "file")]) == 1
    assert f"Nothing can be written to {tmp_path / 'file'}" in capsys.readouterr().err


def test_a_fit_that_fails_leaves_no_folder(small_folder, good, tmp_path, capsys):
    call = [
        "fit",
        "--no-verdict",
        "--normal",
        *good[:4],
        "--model",
        str(small_folder),
        "--output",
        str(tmp_path / "ring"),
        "--quiet",
    ]
    assert main(call) == 1 and "4 good photos cannot carry" in capsys.readouterr().err
    assert not (tmp_path / "ring").exists()


def test_an_update_on_a_share_without_locks_is_refused_and_a_fit_is_not(
    small_folder, good, tmp_path, monkeypatch, capsys
):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    ring = str(tmp_path / "ring")
    fit = [
        "fit",
        "--no-verdict",
        "--normal",
        *good[:12],
        "--false-alarm-rate",
        "10%",
        "--model",
        str(small_folder),
        "--quiet",
    ]
    assert main([*fit, "--output", ring]) == 0
    assert main(["fit", "--no-verdict", "--update", ring, "--normal", good[13], "--quiet"]) == 1
    assert f"{ring}/.lock cannot be locked" in capsys.readouterr().err


@pytest.mark.slow
def test_two_updates_at_once_are_both_kept(profile, small_folder, bad, tmp_path):
    ring = profile.save_pretrained(tmp_path / "ring")
    for both in ((0, 1), (2, 3)):
        command = [*CLI, "fit", "--update", ring, "--quiet", "--confirmed"]
        updates = [start_python(*command, bad[each]) for each in both]
        assert [each.wait(300) for each in updates] == [0, 0]
    photos = InspectionProfile.from_pretrained(ring).features.photos
    assert {photo.name for photo in photos if photo.role == "confirmed"} == set(bad[:4])


def test_features_that_do_not_fit_their_storage_are_refused_with_the_photo(detector, good, monkeypatch):
    encode = photo_features.encode_tiles

    def with_large_numbers(*arguments):
        for tiles, features in encode(*arguments):
            yield tiles, replace(features, image_embeds=1e6 * features.image_embeds.sign())

    monkeypatch.setattr(photo_features, "encode_tiles", with_large_numbers)
    with pytest.raises(ValueError, match=r"00\.png: its features are not finite in storage 'float16'"):
        InspectionProfile.fit(detector, good[:12], 0.1, verdict=False)
    assert InspectionProfile.fit(detector, good[:12], 0.1, storage="float32", verdict=False).prompt_bank.features
