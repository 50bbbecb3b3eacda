"""From scores of good photos to decisions: what the numbers promise, against simulation and other programs."""

import io
import json
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import stats

from adaptclip_hf.inspection.audit import suspects
from adaptclip_hf.inspection.calibration import (
    Calibration,
    discoveries,
    lowest_rate,
    photos_needed,
    require_discoverable,
    used_rate,
)
from adaptclip_hf.inspection.drift import WINDOW, DriftWatch
from adaptclip_hf.inspection.fit_settings import FitSettings
from adaptclip_hf.inspection.near_copies import near_copies, sketch
from adaptclip_hf.inspection.photos import CALIBRATING, CONFIRMED, DEFECT, GOOD, IN_BANK, ProfilePhoto
from adaptclip_hf.inspection.split import CROSS, LEAVE_ONE_OUT, SPLIT, Split, asked_and_given, rates
from adaptclip_hf.processing.thresholds import margin_of
from adaptclip_hf.synthetic import make_category, render_sample


def test_p_values_by_their_definition():
    rng = np.random.default_rng(0)
    scores, queries = rng.integers(0, 20, 37) / 20, rng.integers(0, 22, 50) / 20  # with ties
    calibration = Calibration.at_rate(scores, 0.1)
    expected = [(1 + sum(each >= query for each in scores)) / 38 for query in queries]
    np.testing.assert_allclose(calibration.p_values(queries), expected)
    for query in queries:  # the label and the p-value say the same
        assert (query > calibration.threshold) == (calibration.p_values(query) <= 0.1 + 1e-12)


@pytest.mark.parametrize(("rate", "needed"), [(0.1, 9), (0.05, 19), (0.02, 49), (0.01, 99), (0.001, 999), (0.5, 1)])
def test_how_many_photos_a_rate_takes(rate, needed):
    assert photos_needed(rate) == needed and lowest_rate(needed) <= rate + 1e-12
    Calibration.at_rate(np.arange(needed) / needed, rate)
    if needed > 1:
        with pytest.raises(ValueError, match=f"{needed - 1} good photos cannot carry .* it takes {needed}"):
            Calibration.at_rate(np.arange(needed - 1) / needed, rate)


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (20, 0.05), (40, 0.1), (99, 0.01), (150, 0.05)])
def test_false_alarms_keep_to_the_rate_and_the_bound(count, rate):
    rng = np.random.default_rng(count)
    calibrations = [Calibration.at_rate(rng.lognormal(size=count), rate) for _ in range(2000)]
    calibration = calibrations[-1]
    found = stats.lognorm(1).sf([each.threshold for each in calibrations])  # of all good photos there can be
    certain = found <= [each.certain_rate for each in calibrations]
    assert calibration.expected_rate <= rate + 1e-12
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(calibration.expected_rate, abs=4 * error)
    assert np.mean(certain) == pytest.approx(0.95, abs=0.02)


def test_thresholds_by_escapes_and_by_f1():
    rng = np.random.default_rng(1)
    good, bad = rng.normal(0, 1, 60), rng.normal(2, 1, 40)
    escapes = [
        stats.norm(2, 1).cdf(Calibration.at_escape_rate(good, rng.normal(2, 1, 40), 0.1).threshold) for _ in range(500)
    ]
    assert np.mean(escapes) == pytest.approx(4 / 41, abs=0.01)
    with pytest.raises(ValueError, match="5 defects cannot carry an escape rate of 1 %: 99 are needed"):
        Calibration.at_escape_rate(good, bad[:5], 0.01)
    best = Calibration.at_best_f1(good, bad)

    def f1(threshold):
        found = (bad > threshold).sum()
        return 2 * found / (found + (good > threshold).sum() + len(bad))

    assert f1(best.threshold) == max(f1(each) for each in np.linspace(-4, 6, 5000))
    assert best.expected_rate == (1 + (good > best.threshold).sum()) / 61
    told = best.escapes(bad)
    assert told["missed"] == (bad <= best.threshold).sum() and told["low"] < told["rate"] < told["high"]


def test_discoveries_are_those_of_the_step_up_procedure():
    rng = np.random.default_rng(2)
    for _ in range(50):
        p_values = np.concatenate([rng.uniform(0, 1, 80), rng.uniform(0, 0.01, 20)])
        ordered = np.sort(p_values)
        below = np.flatnonzero(ordered <= 0.1 * np.arange(1, 101) / 100)
        expected = p_values <= (ordered[below[-1]] if len(below) else -1)
        np.testing.assert_array_equal(discoveries(p_values, 0.1), expected)
    assert len(discoveries([], 0.1)) == 0


def test_false_discoveries_keep_to_their_rate():
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(300):
        calibration = Calibration.at_rate(rng.normal(size=200), 0.05)
        scores = np.concatenate([rng.normal(size=90), rng.normal(4, 1, 10)])
        found = discoveries(calibration.p_values(scores), 0.2)
        shares.append(found[:90].sum() / max(1, found.sum()))
    assert np.mean(shares) <= 0.2 * 0.9 + 3 * np.std(shares) / np.sqrt(300)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="nonconform needs Python 3.12")
def test_against_nonconform():
    """Another program's p-values of the same scores."""
    from nonconform import Empirical

    rng = np.random.default_rng(4)
    scores, queries = np.round(rng.normal(size=50), 1), np.round(rng.normal(1, 1, 40), 1)
    theirs = Empirical().compute_p_values(queries, scores)
    np.testing.assert_allclose(Calibration.at_rate(scores, 0.05).p_values(queries), theirs)


def test_splits_use_the_rate_that_is_asked_for():
    for rate in (0.2, 0.1, 0.05, 0.02):
        for count in range(photos_needed(rate) + 10, 400):
            split = Split.of(count, rate, SPLIT)
            assert used_rate(split.calibrating, rate) == pytest.approx(rate) and split.bank >= 10
            if Split.of(count, rate).method == SPLIT:
                assert Split.of(count, rate).bank >= 50
    assert Split.of(20, 0.05, SPLIT, confirmed=60).calibrating == 19  # no more than there are


def test_where_a_rate_is_not_used_it_is_said_why():
    scores = np.arange(30) / 30
    assert Calibration.at_rate(scores, 0.1).expected_rate == pytest.approx(3 / 31)  # all that 30 photos can
    assert asked_and_given(30, 0.1, 3 / 31) is None and asked_and_given(20, 0.05, 1 / 21) is None
    assert asked_and_given(15, 0.1, 1 / 16) == (
        "asked for 10 %, and 15 calibrating photos give 6.25 %: with 15 of them rates go in steps of 6.25 %; 19 would "
        "give 10 %"
    )
    alike = Calibration.at_rate([0.1] * 10 + [0.5] * 9, 0.2)
    assert "several of them score as high as the threshold" in asked_and_given(19, 0.2, alike.expected_rate)
    assert rates(20) == (
        "with 20 calibrating photos the lowest false-alarm rate to ask for is 4.76 %; 2 % would take 49 of them"
    )


def test_a_score_among_the_good_photos_in_words():
    calibration = Calibration.at_rate(np.arange(20) / 20, 0.1)
    assert calibration.place_of(0.99) == "above all 20 good photos (p 0.048, the lowest that 20 can give)"
    assert calibration.place_of(0.83) == "above 17 of 20 good photos (p 0.190)"
    assert calibration.place_of(0.0) == "above none of 20 good photos (p 1.000)"
    assert margin_of(0.6, 0.4) == pytest.approx(1.5) and margin_of(0.6, None) is None
    assert margin_of(0.6, 0.0) is None and margin_of(0.6, 5e-324) is None and margin_of(0.6, -1e-9) is None


def test_plans():
    assert Split.of(40, 0.05, SPLIT) == Split(SPLIT, 21, 19) and Split.of(30, 0.05, SPLIT) == Split(SPLIT, 11, 19)
    assert Split.of(30, 0.1, SPLIT) == Split(SPLIT, 11, 19)  # not 15, which use 6.25 % of the 10
    for count, rate in ((9, 0.1), (30, 0.1), (40, 0.05), (98, 0.05), (148, 0.01)):  # no photo is wasted
        assert Split.of(count, rate) == Split(LEAVE_ONE_OUT, count, count)
    assert Split.of(100, 0.05) == Split(SPLIT, 61, 39) and Split.of(149, 0.01) == Split(SPLIT, 50, 99)
    assert Split.of(90, 0.05, confirmed=5).method == SPLIT  # of 45 and the five that are in the bank anyway
    assert Split.of(100, 0.05, CROSS) == Split(CROSS, 100, 100)
    for method in ("fold", "", None):
        with pytest.raises(ValueError, match=r"There is no calibration .*auto, split, cross, leave-one-out"):
            Split.of(40, 0.05, method)
    for count, rate, needed in ((4, 0.01, 99), (18, 0.05, 19), (1, 0.05, 19)):
        with pytest.raises(ValueError, match=f"{count} good photos? cannot carry .*takes {needed}"):
            Split.of(count, rate)
    with pytest.raises(ValueError, match="when split"):
        Split.of(19, 0.05, "split")
    with pytest.raises(ValueError, match="19 must calibrate, and at least two must be left for the bank"):
        Split.of(20, 0.05, "split")
    assert Split.of(21, 0.05, "split").bank == Split.of(20, 0.05, "split", confirmed=1).bank + 1 == 2
    with pytest.raises(ValueError, match="between 0 and 1, got 5"):
        Split.of(40, 5)


@pytest.mark.parametrize("method", [SPLIT, CROSS, LEAVE_ONE_OUT])
@pytest.mark.parametrize("count", [3, 12, 23])
def test_folds_hold_each_photo_once_and_leave_it_out_of_its_bank(method, count):
    given = [*photos_that_score([0.0] * count), *photos_that_score([0.0] * 2)]
    given[-2], given[-1] = replace(given[-2], role=CONFIRMED), replace(given[-1], role=DEFECT)
    split = Split.of(count, 0.5, method, confirmed=1)
    photos = split.assign(given, seed=3)
    folds = split.folds(photos, seed=3)
    assert sorted(number for fold in folds for number in fold) == list(range(count + 2))
    in_bank = {number for number, photo in enumerate(photos) if photo.role in IN_BANK}
    calibrating = {number for number, photo in enumerate(photos) if photo.role in CALIBRATING}
    assert (len(in_bank), len(calibrating)) == (split.bank + 1, split.calibrating)
    if method != SPLIT:
        assert in_bank - calibrating == {count}  # the confirmed one: every good photo does both
    sizes = [len(fold) for fold in folds if set(fold) <= calibrating & in_bank]
    expected = {SPLIT: [], LEAVE_ONE_OUT: [1] * count, CROSS: [len(part) for part in np.array_split(range(count), 5)]}
    assert sizes == [size for size in expected[method] if size]
    assert [count] in folds and all(in_bank - set(fold) for fold in folds)
    assert folds == split.folds(photos, seed=3)


@pytest.mark.parametrize(("method", "rate"), [(LEAVE_ONE_OUT, 0.1), (CROSS, 0.1), (LEAVE_ONE_OUT, 0.2), (CROSS, 0.2)])
def test_nearest_distances_keep_the_rate_where_every_photo_is_in_the_bank(method, rate):
    """The plain form: new points against all, the others without their fold. Points of three dimensions stand for
    photos, the distance to the nearest for the score. Nothing is called that jackknife+ or CV+ would not call."""
    rng, alarms, count = np.random.default_rng(7), [], 20
    for seed in range(300):
        points, queries = rng.normal(size=(count, 3)), rng.normal(size=(20, 3))
        split = Split.of(count, rate, method)
        photos = split.assign(photos_that_score([0.0] * count), seed)
        between = np.linalg.norm(points[:, None] - points[None], axis=-1)
        to_points = np.linalg.norm(queries[:, None] - points[None], axis=-1)
        scores, without_fold = np.empty(count), np.empty((count, len(queries)))
        for fold in split.folds(photos, seed):
            others = [each for each in range(count) if each not in fold]
            scores[fold], without_fold[fold] = between[np.ix_(fold, others)].min(1), to_points[:, others].min(1)
        calibration, found = Calibration.at_rate(scores, rate), to_points.min(1)
        relative = (1 + (scores[:, None] >= without_fold).sum(0)) / (count + 1)  # of jackknife+ and CV+
        assert (calibration.p_values(found) >= relative).all()  # so that their bound holds here
        np.testing.assert_array_equal(found > calibration.threshold, calibration.p_values(found) <= rate + 1e-12)
        alarms.append((found > calibration.threshold).mean())
    error = np.std(alarms) / np.sqrt(len(alarms))
    assert np.mean(alarms) <= rate + 2 * error
    assert np.mean(alarms) >= (0.5 if method == CROSS else 0.7) * rate  # no larger threshold than that takes


def test_drift_is_noted_and_no_drift_is_not():
    rng = np.random.default_rng(5)
    false_alarms = 0
    for _ in range(40):
        watch = DriftWatch(Calibration.at_rate(rng.lognormal(size=20), 0.05))
        false_alarms += sum(watch.add(score) is not None for score in rng.lognormal(size=500))
    assert false_alarms <= 4  # of about 400 windows, whose tests share their calibrations
    watch = DriftWatch(Calibration.at_rate(np.exp(rng.normal(0, 0.5, 40)), 0.05))
    noted = [watch.add(score) for score in np.exp(rng.normal(0.4, 0.3, 400))]
    drifts = [each for each in noted if each]
    assert drifts and drifts[0].higher and f"last {WINDOW} photos" in drifts[0].describe()


def photos_that_score(scores) -> list[ProfilePhoto]:
    return [ProfilePhoto(str(name), "", (8, 8), GOOD, (0, 1), score) for name, score in enumerate(scores)]


def test_audit_names_what_stands_out_alone():
    rng = np.random.default_rng(6)
    named = 0
    for _ in range(100):
        scores = 0.1 * np.exp(rng.normal(0, 0.3, 40))
        named += len(suspects(photos_that_score(scores)))
        scores[7] = 0.6
        assert suspects(photos_that_score(scores))[0].name == "7"
    assert named < 40  # of 4,000 good ones
    assert suspects(photos_that_score([0.5])) == []


def test_a_threshold_below_every_score_promises_nothing():
    """Also of `--choose`, where all known defects score below all good photos."""
    good, low = [0.2, 0.3, 0.4], [0.0] * 30
    below = Calibration.at_best_f1(good, [0.1] * 9)
    for calibration in (Calibration(np.array(good), 0.1), Calibration.at_escape_rate(good, low, 0.05), below):
        assert calibration.exceeding == 3 and calibration.expected_rate == calibration.certain_rate == 1.0
        assert json.loads(json.dumps(calibration.escapes(low), allow_nan=False))["defects"] == 30
    watch = DriftWatch(Calibration(np.array(good), 0.1))
    assert not any(watch.add(0.05) for _ in range(2 * WINDOW))


def test_numbers_that_are_none_are_refused():
    calibration = Calibration.at_rate(np.arange(20) / 20, 0.1)
    for value in (float("nan"), float("inf"), [0.1, float("nan")]):
        with pytest.raises(ValueError, match="finite numbers"):
            calibration.p_values(value)
    with pytest.raises(ValueError, match="finite numbers, at least one, got 2, of which 1"):
        calibration.escapes([0.1, float("nan")])
    with pytest.raises(ValueError, match=r"p-values in \[0, 1\]"):
        discoveries([0.1, float("nan")], 0.1)
    with pytest.raises(ValueError, match="threshold that is a finite number"):
        Calibration(calibration.scores, float("nan"))
    assert Calibration.at_rate([0.1, 0.2], 1 - 1e-15).threshold == 0.1 and photos_needed(5e-324) > 10**14


@pytest.mark.parametrize(("calibrating", "rate"), [(12, 0.05), (98, 0.01), (18, 0.05)])
def test_a_rate_at_which_nothing_can_be_called_is_refused_with_the_number(calibrating, rate):
    with pytest.raises(ValueError, match=f"it takes {photos_needed(rate)}"):
        require_discoverable(calibrating, rate)
    lowest = 1 / (calibrating + 1)
    assert not any(discoveries([lowest] * count, rate).any() for count in (1, 10, 1000))  # not even if all are lowest
    require_discoverable(photos_needed(rate), rate)
    assert discoveries([1 / (photos_needed(rate) + 1)] * 3, rate).all()


NUMPY = dict(false_alarm_rate=np.float32(0.1), escape_rate=np.float16(0.2), seed=np.int64(3), bank_size=np.uint8(5))


def test_settings_become_plain_numbers():
    settings = FitSettings(**NUMPY)
    assert json.loads(json.dumps(asdict(settings))) == asdict(FitSettings(0.1, escape_rate=0.2, seed=3, bank_size=5))
    assert photos_needed(settings.false_alarm_rate) == 9 and type(settings.bank_size) is int


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("false_alarm_rate", float("nan")),
        ("false_alarm_rate", "0.1"),
        ("false_alarm_rate", True),
        ("false_alarm_rate", None),
        ("false_alarm_rate", 1),
        ("false_alarm_rate", np.array([0.1])),
        ("escape_rate", None),
        ("escape_rate", -0.1),
        ("choice", "escape"),
        ("choice", ["f1"]),
        ("calibration", None),
        ("storage", "float64"),
        ("object_name", 5),
        ("object_name", " "),
        ("object_name", "bottle " * 100),
        ("bank_size", 0),
        ("bank_size", 1),  # the photo in the bank would be compared with nothing
        ("bank_size", 2.0),
        ("bank_size", True),
        ("seed", -1),
        ("seed", None),
        ("seed", 2**64),
    ],
)
def test_settings_of_another_kind_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name) as refused:
        FitSettings(**{name: value})
    assert len(str(refused.value)) < 300


def test_near_copies_are_found_and_other_photos_are_not():
    category, rng = make_category(5, "metal ring"), np.random.default_rng(0)
    photos = [Image.fromarray(render_sample(category, index, 160, defect=False)[0]) for index in range(20)]
    photos += [Image.fromarray(render_sample(category, 3, 160, defect="scratch")[0])]  # one part with another surface

    def saved_again(photo: Image.Image, quality: int) -> Image.Image:
        file = io.BytesIO()
        photo.save(file, "JPEG", quality=quality)
        return Image.open(file)

    copies = [
        photos[0].resize((80, 80)),
        photos[1].resize((48, 48)),
        photos[2].resize((320, 320)),
        saved_again(photos[4], 60),
        saved_again(photos[5].resize((100, 100)), 80),
        ImageEnhance.Brightness(photos[6]).enhance(0.8),
        photos[7].convert("L").convert("RGB"),
        Image.fromarray(np.asarray(photos[8]) ^ rng.integers(0, 4, (160, 160, 3), np.uint8)),
    ]
    everything = [*photos, *copies]
    found = near_copies([sketch(each) for each in everything], [each.size[::-1] for each in everything])
    expected = {21: 0, 22: 1, 2: 23, 24: 4, 25: 5, 26: 6, 27: 7, 28: 8}
    assert found == expected  # the largest is kept; the scratched part is another photo
    turned = [each.transpose(Image.Transpose.ROTATE_90) for each in photos[:3]]
    shapes = [sketch(each) for each in (*photos, *turned)]
    assert near_copies(shapes, [each.size[::-1] for each in (*photos, *turned)]) == {}
    assert near_copies([b""] * 30, [(8, 8)] * 30) == near_copies([], []) == {}  # of an earlier version
    assert len(sketch(photos[0])) == 256 and sketch(photos[0]) == sketch(photos[0])
