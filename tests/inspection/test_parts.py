"""Several photos of one part: grouped, calibrated and decided together."""

import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.cli import main
from adaptclip_hf.engine import UnreadableImage
from adaptclip_hf.inspection.calibration import Calibration
from adaptclip_hf.inspection.golden import Golden
from adaptclip_hf.inspection.near_copies import near_copies, sketch
from adaptclip_hf.inspection.parts import PartPattern, UsualPart, groups_of, highest, label_of_part
from adaptclip_hf.inspection.photos import BOTH, CONFIRMED, DEFECT, GOOD, IN_BANK, ProfilePhoto
from adaptclip_hf.inspection.split import METHODS, Split
from adaptclip_hf.synthetic import make_category, render_sample

PATTERN = "{part}_view{view}"
VIEWS = 3


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """Ten good parts of three views each, each view another drawing."""
    folder = tmp_path_factory.mktemp("parts")
    for view, kind in enumerate(("metal ring", "metal ring", "metal ring"), start=1):
        category = make_category(view, kind)
        for number in range(10):
            image = render_sample(category, 100 * view + number, 90, defect=False)[0]
            Image.fromarray(image).save(folder / f"A{number}_view{view}.png")
    return folder


def photos_in(folder: Path) -> list[str]:
    return sorted(map(str, folder.glob("*.png")))


@pytest.fixture(scope="module")
def profile(detector: AnomalyDetector, parts: Path) -> InspectionProfile:
    return InspectionProfile.fit(detector, photos_in(parts), 0.1, part_pattern=PATTERN, verdict=False)


@pytest.mark.parametrize(
    ("pattern", "path", "part", "view"),
    [
        (PATTERN, "line/A7_view2.png", "line/A7", "2"),
        (PATTERN, "A_view1_view2.JPG", "A_view1", "2"),  # as long as can be
        ("{view}/{part}", "/data/top/A7.png", "/data/A7", "top"),
        ("{part}/*", "s3://line/A7/top.png", "s3://line/A7", None),
        ("*/{part}_{view}", "day1/A7_2.png", "A7", "2"),
        ("{part}_*", "A.7_2026.01", "A.7", None),  # what is no ending of a picture stays
        ("{part}-{view}", "zeile\n1-2.png", "zeile\n1", "2"),
        ("{part}.{view}+", "a.b+.png", "a", "b"),
    ],
)
def test_a_pattern_tells_the_part_and_the_view(pattern, path, part, view):
    assert PartPattern(pattern).of(path) == (part, view)


@pytest.mark.parametrize(
    "path", ["A7.png", "line/_view1.png", "A7_view.png", "A7_view2/x.png", "a" * 300 + "_view1.png"]
)
def test_a_name_that_does_not_match_has_no_part(path):
    assert PartPattern(PATTERN).of(path) is None
    assert PartPattern("{view}/{part}").of("A7.png") is None


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "name", "{view}", "{part}_{part}", "{part}{view}", "{part}*", "{serial}_{part}", "{part}_{view}_{view}"),
        *("{part}_*_*_*_*", "/{part}", "{part}//{view}", "{part}_{view}.png", "x" * 300 + "{part}", r"(?P<part>.+)_\d"),
    ],
)
def test_a_bad_pattern_is_refused_with_status_2(pattern, capsys):
    with pytest.raises(ValueError, match=r"part pattern"):
        PartPattern(pattern)
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--normal", "x", "--output", "y", "--part-pattern", pattern])
    assert stopped.value.code == 2 and "part pattern" in capsys.readouterr().err


def test_no_name_makes_a_pattern_slow():
    start = time.perf_counter()
    assert PartPattern("{part}a*a*a{view}").of("a" * 255 + "/" + "a" * 254 + "b/") is None
    assert PartPattern("*a*a{part}b{view}").of("a" * 255) is None
    assert PartPattern(PATTERN).of("a" * 1_000_000) is None
    assert time.perf_counter() - start < 1


def made(parts: list[str | None], role: str = GOOD) -> list[ProfilePhoto]:
    return [
        ProfilePhoto(f"{number}", "", (8, 8), role, (number, number + 1), part=part, score=number / 100, peak=0.5)
        for number, part in enumerate(parts)
    ]


@pytest.mark.parametrize("method", METHODS[1:])
def test_photos_of_one_part_leave_the_bank_together(method):
    parts = [f"{part}" for part in range(12) for _ in range(1 + part % 3)]
    photos = [*made(parts), *made(["x", "x"], CONFIRMED), *made(["y", "y", None], DEFECT)]
    photos = [replace(photo, rows=(number, number + 1)) for number, photo in enumerate(photos)]
    split = Split.of(12, 0.2, method, what="parts")
    photos = split.assign(photos, 3)
    folds = split.folds(photos, 3)
    assert sorted(number for fold in folds for number in fold) == list(range(len(photos)))
    for group in groups_of(photos):
        assert len({photos[number].role for number in group}) == 1
        [fold] = [fold for fold in folds if group[0] in fold]
        assert set(group) <= set(fold)
    if method == "leave-one-out":
        assert [len(fold) for fold in folds[:12]] == [1 + part % 3 for part in range(12)]
    assert len(groups_of([photo for photo in photos if photo.role in IN_BANK])) == split.bank + 1


def test_a_part_of_which_a_photo_was_confirmed_does_not_calibrate():
    photos = [*made(["a", "a", "b", "b"]), *made(["a"], CONFIRMED)]
    assigned = Split.of(2, 0.4).assign(photos, 0)
    assert [photo.role for photo in assigned] == [CONFIRMED, CONFIRMED, BOTH, BOTH, CONFIRMED]


def test_rates_hold_for_parts_and_not_for_photos():
    """With scores of one distribution: by parts the asked share is called anomalous, by photos 1 - 0.95^4."""
    rng, alarms, by_photo = np.random.default_rng(0), [], []
    for _ in range(400):
        scores = rng.normal(size=(39, 4)) + 0.5 * rng.normal(size=(39, 1))
        new = rng.normal(size=(200, 4)) + 0.5 * rng.normal(size=(200, 1))
        photos = made([f"{part}" for part in range(39) for _ in range(4)])
        photos = [replace(photo, score=float(score)) for photo, score in zip(photos, scores.ravel(), strict=True)]
        threshold = Calibration.at_rate(highest(photos), 0.05).threshold
        alarms.append((new.max(1) > threshold).mean())
        single = Calibration.at_rate([photo.score for photo in photos], 0.05).threshold
        by_photo.append((new.max(1) > single).mean())
    assert 0.04 < np.mean(alarms) < 0.06 and np.mean(by_photo) > 0.13


def test_a_profile_of_parts_calibrates_each_part_without_itself(profile, detector, parts):
    photos = profile.features.photos
    assert len(photos) == 30 and len(profile.calibration.scores) == 10
    assert profile.calibration.scores.tolist() == sorted(highest(photos))
    own = [photo for photo in photos if photo.part == photos[0].part]
    assert len(own) == VIEWS
    others = detector.remember([photo.name for photo in photos if photo.part != photos[0].part])
    for photo in own:
        [result] = detector.detect(photo.name, prompt_bank=others)
        assert photo.score == pytest.approx(result.score, abs=1e-4)
    told = profile.describe()
    assert "30 good photos of 10 parts in the bank, 10 parts calibrate" in told
    assert "3 photos a part (views 1, 2, 3)" in told and "9.09 % of parts on average" in told


def test_it_is_kept_with_its_pattern(profile, detector, parts, tmp_path):
    again = InspectionProfile.from_pretrained(profile.save_pretrained(tmp_path))
    assert again.settings.part_pattern == PATTERN and again.digest() == profile.digest()
    assert again.usual_part == profile.usual_part == UsualPart(3, ("1", "2", "3"), PartPattern(PATTERN))
    assert again.calibration.scores.tolist() == profile.calibration.scores.tolist()
    more = []
    for view in (1, 2):
        image = Image.open(parts / f"A0_view{view}.png").rotate(3)
        image.save(tmp_path / f"B_view{view}.png")
        more.append(tmp_path / f"B_view{view}.png")
    updated = again.update(detector, more)
    assert len(updated.calibration.scores) == 11 and f"{tmp_path}/B (lacks view 3)" in updated.describe()
    confirmed = again.update(detector, confirmed=more)
    assert len(confirmed.calibration.scores) == 10 and len(confirmed.prompt_bank) == 32
    with pytest.raises(ValueError, match="fit a new one"):
        again.update(detector, part_pattern="{part}_*")
    content = json.loads((tmp_path / "profile.json").read_text())
    del content["sha256"]
    content["features_sha256"] = None
    content["photos"][0]["part"] = None
    (tmp_path / "profile.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="belongs to no part"):
        InspectionProfile.from_pretrained(tmp_path)


def test_a_part_is_decided_from_its_results(profile, detector, parts, tmp_path):
    good = [parts / f"A3_view{view}.png" for view in (1, 2, 3)]
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "A3_view2.png")
    results = detector.detect([good[0], tmp_path / "A3_view2.png"], profile=profile)
    decided = profile.decide_part([*results, UnreadableImage("A3_view3.png", "broken")])
    assert (decided.label, decided.photos, decided.differs) == ("anomalous", 2, "lacks view 3")
    assert decided.worst.endswith("A3_view2.png") and decided.p_value == pytest.approx(1 / 11)
    assert decided.p_value == min(result.p_value for result in results)
    well = profile.decide_part(detector.detect(good, profile=profile))
    assert (well.label, well.differs) == ("normal", None)
    in_memory = detector.detect([Image.open(photo).copy() for photo in good], profile=profile)
    assert profile.decide_part(in_memory).differs is None
    assert profile.decide_part(in_memory[:2]).differs == "2 of 3 photos"
    with pytest.raises(ValueError, match="None of the part's photos"):
        profile.decide_part([UnreadableImage("x", "broken")])


def test_the_worst_photo_names_the_part():
    assert label_of_part(["normal", None, "anomalous", "not inspectable"]) == "anomalous"
    assert label_of_part(["normal", "not inspectable"]) == "not inspectable"
    assert label_of_part(["normal", None]) == "normal" and label_of_part([None]) is None


def test_parts_may_be_named_one_by_one(detector, parts):
    photos = photos_in(parts)[:15]
    names = [f"{number // 3}" for number in range(15)]
    profile = InspectionProfile.fit(detector, photos, 0.2, parts=names, verdict=False)
    assert Counter(photo.part for photo in profile.features.photos) == dict.fromkeys("01234", 3)
    by_name = InspectionProfile.fit(detector, photos, 0.2, parts=dict(zip(photos, names, strict=True)), verdict=False)
    assert by_name.calibration.scores.tolist() == profile.calibration.scores.tolist()
    assert profile.usual_part == UsualPart(3, (), None)
    opened = InspectionProfile.fit(detector, map(Image.open, photos), 0.2, parts=names, verdict=False)
    assert opened.calibration.scores.tolist() == profile.calibration.scores.tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"parts": ["a", "b"]}, "2 names of parts for 4 photos"),
        ({"parts": {"x": "a"}, "part_pattern": "{part}_{view}_{none}"}, "has {none}"),
        ({"part_pattern": "{part}_shot{view}"}, r"A0_view1.png belongs to no part: its name does not match"),
        ({"part_pattern": PATTERN}, "2 good parts cannot carry a false-alarm rate of 10 %: it takes 9"),
        ({"parts": "abcd"}, "Expected a name of a part for each photo"),
    ],
)
def test_what_cannot_be_grouped_is_refused(detector, parts, given, message):
    photos = [str(parts / f"A{part}_view{view}.png") for part in (0, 1) for view in (1, 2)]
    with pytest.raises(ValueError, match=message):
        InspectionProfile.fit(detector, photos, 0.1, **given)


def test_a_part_is_good_or_not(detector, parts):
    photos = photos_in(parts)
    with pytest.raises(ValueError, match=r"A0 has photos among the good ones and among the defects"):
        InspectionProfile.fit(detector, photos[1:], 0.1, defects=photos[:1], part_pattern=PATTERN, verdict=False)


def test_views_that_look_alike_are_no_copies_and_whole_parts_may_be(parts):
    images = [Image.open(photo) for photo in photos_in(parts)]
    names = [Path(photo).name[:2] for photo in photos_in(parts)]
    again = [image.resize((60, 60)) for image in images[:3]]
    shown = [*images, *again, images[3].resize((60, 60))]  # all views of one part, and one of another
    of = [*names, "X", "X", "X", "Y"]
    sketches, sizes = [sketch(image) for image in shown], [image.size[::-1] for image in shown]
    assert near_copies(sketches, sizes, [*of[:-1], "A0"]) == {30: 0, 31: 1, 32: 2}
    assert near_copies(sketches[:30], sizes[:30], [f"{number // 15}" for number in range(30)]) == {}
    assert near_copies(sketches[:3], sizes[:3], ["a"] * 3) == {}  # one part alone


def test_golden_photos_get_the_decision_on_their_part(detector, profile, parts, tmp_path):
    """A defect need not be seen from each side."""
    golden = tmp_path / "golden"
    for name in ("good", "bad"):
        (golden / name).mkdir(parents=True)
    for view, place in ((1, "good"), (2, "good"), (1, "bad"), (2, "bad")):
        image = render_sample(make_category(view, "metal ring"), 40 + view, 90, defect=False)[0]
        if (view, place) == (2, "bad"):
            image[20:70, 20:70] = [255, 0, 255]
        Image.fromarray(image).save(golden / place / f"G_view{view}.png")
    seen = {}

    def results_of(paths):
        for path in paths:
            [result] = detector.detect(path, profile=profile)
            bad = path == str(golden / "bad" / "G_view2.png")
            seen[path] = replace(result, label="anomalous" if bad else "normal", score=0.9 if bad else 0.1, margin=2.0)
            yield seen[path]

    check = Golden(golden).check(detector, profile, results_of, None)
    assert {photo.name: (photo.label, photo.score) for photo in check.photos} == {
        "bad/G_view1.png": ("anomalous", 0.9),
        "bad/G_view2.png": ("anomalous", 0.9),
        "good/G_view1.png": ("normal", 0.1),
        "good/G_view2.png": ("normal", 0.1),
    }
