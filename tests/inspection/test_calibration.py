"""From scores of good photos to decisions: what the numbers promise, against simulation and other programs."""

import sys

import numpy as np
import pytest
from scipy import stats

from adaptclip_hf.inspection.audit import suspects
from adaptclip_hf.inspection.calibration import Calibration, discoveries, lowest_rate, photos_needed
from adaptclip_hf.inspection.drift import WINDOW, DriftWatch
from adaptclip_hf.inspection.photo_features import GOOD, ProfilePhoto
from adaptclip_hf.inspection.split import LEAVE_ONE_OUT, SPLIT, Split


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


def test_plans():
    assert Split.of(40, 0.05) == Split(SPLIT, 20, 20) and Split.of(30, 0.05) == Split(SPLIT, 11, 19)
    assert Split.of(20, 0.05) == Split(LEAVE_ONE_OUT, 20, 20) and Split.of(20, 0.1) == Split(SPLIT, 10, 10)
    assert Split.of(20, 0.05, confirmed=9).method == SPLIT  # of one and the nine that are in the bank anyway
    for count, rate, needed in ((4, 0.01, 99), (18, 0.05, 19), (1, 0.05, 19)):
        with pytest.raises(ValueError, match=f"{count} good photos cannot carry .*takes {needed}"):
            Split.of(count, rate)
    with pytest.raises(ValueError, match="when split"):
        Split.of(19, 0.05, "split")
    with pytest.raises(ValueError, match="between 0 and 1, got 5"):
        Split.of(40, 5)


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
