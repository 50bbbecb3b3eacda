"""What a fit tells: defects pasted on good photos, counted, kept, read back, and put in words."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from adaptclip_hf import InspectionProfile, View
from adaptclip_hf.cli import main
from adaptclip_hf.engine.scoring import TileInput, compare, encode
from adaptclip_hf.inspection import Calibration, pasting
from adaptclip_hf.inspection.pasted_defects import CELLS
from adaptclip_hf.inspection.pasting import sampled_again, spoil, spoiled_photo
from adaptclip_hf.inspection.photo_sample import MOST_PHOTOS, PhotoSample, looked_at
from adaptclip_hf.inspection.profile_content import PastedContent
from adaptclip_hf.inspection.profile_files import content_digest
from adaptclip_hf.synthetic import make_category, render_sample
from adaptclip_hf.synthetic.pasting import CONTRASTS, KINDS, part_of, paste_defect


@pytest.fixture(scope="module", autouse=True)
def one_round():
    """One defect of each kind, size and strength, in place of two to four."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FEWEST_ROUNDS", "MOST_ROUNDS", "HALVED_ROUNDS"):
            patch.setattr(pasting, name, 1)
        yield


@pytest.fixture(scope="module")
def good(good) -> list[str]:
    """Twelve of the photos of good parts."""
    return good[:12]


@pytest.fixture(scope="module")
def profile(detector, good) -> InspectionProfile:
    return InspectionProfile.fit(detector, good, 0.1)


def test_a_verdict_counts_defects_of_each_kind_size_and_strength(profile):
    verdict = profile.verdict
    assert json.loads(json.dumps(verdict)) == verdict
    assert [(each["kind"], each["size"], each["strength"]) for each in verdict["defects"]] == list(CELLS)
    for each in verdict["defects"]:
        assert each["found"] == sum(score > profile.calibration.threshold for score in each["scores"])
    assert verdict["pasted"] == 40 and verdict["found"] == sum(each["found"] for each in verdict["defects"])
    assert set(PastedContent.model_fields["kind"].annotation.__args__) == set(KINDS)


def test_a_verdict_depends_on_photos_and_seed_alone(profile, detector, good):
    again = InspectionProfile.fit(detector, (Image.open(path) for path in good), 0.1)
    assert again.verdict == profile.verdict
    without = InspectionProfile.fit(detector, good, 0.1, verdict=False)
    assert without.verdict is None and without.verdict_text is None and "verdict" not in without.contents()
    assert without.digest() == profile.digest()


def test_a_verdict_is_saved_and_damage_is_refused(profile, tmp_path):
    profile.save_pretrained(tmp_path)
    assert InspectionProfile.from_pretrained(tmp_path).verdict == profile.verdict
    file = tmp_path / "profile.json"
    content = json.loads(file.read_text())
    for name, change in {
        "verdict.level": {"level": "splendid"},
        "verdict: found": {"found": content["verdict"]["found"] + 1},
        "verdict.threshold": {"threshold": content["threshold"] + 1e-9},
        "verdict.pixels": {"pixels": -1.0},
        "verdict.more": {"more": 1},
    }.items():
        damaged = content | {"verdict": content["verdict"] | change}
        file.write_text(json.dumps(damaged | {"sha256": content_digest(damaged)}))
        with pytest.raises(ValueError, match=name):
            InspectionProfile.from_pretrained(tmp_path)


def test_a_moved_threshold_counts_anew_and_warns_of_the_blind(profile, tmp_path):
    scores = profile.calibration.scores
    seeing, blind = (replace(profile, calibration=Calibration(scores, threshold)) for threshold in (0.0, 1.0))
    assert seeing.verdict["level"] == "good" and "WARNING" not in seeing.verdict_text
    assert blind.verdict["found"] == 0 and blind.verdict["level"] == "blind"
    assert "WARNING" in blind.verdict_text and "larger model" in blind.verdict_text
    assert "promise nothing for real ones" in blind.verdict_text
    blind.save_pretrained(tmp_path)
    assert InspectionProfile.from_pretrained(tmp_path).verdict == blind.verdict


def test_a_photo_that_sets_the_threshold_alone_is_named(profile):
    """And more photos are not called useless where hardly a defect is found."""
    photos = profile.features.photos
    standing_out = replace(photos[0], score=0.999)
    features = replace(profile.features, photos=(standing_out, *photos[1:]))
    scores = sorted(photo.score for photo in features.photos)
    spoilt = replace(profile, features=features, calibration=Calibration.at_rate(scores, 0.1))
    [line] = [line for line in spoilt.verdict["advice"] if standing_out.name in line]
    usual = Calibration.at_rate([photo.score for photo in photos[1:]], 0.1)
    assert f"about {spoilt.pasted.found(usual.threshold)[0]} of 40" in line and "--drop" in line
    assert not any("hardly help" in line for line in spoilt.verdict["advice"])
    assert not any("--drop" in line for line in profile.verdict["advice"])


def test_an_update_keeps_a_verdict_and_says_so_until_it_is_asked_for_anew(profile, detector, good, tmp_path):
    dropped = profile.update(detector, drop=good[:1], false_alarm_rate=0.3)
    assert dropped.verdict["before_update"] and "--verdict` renews it" in dropped.verdict_text
    same = ("level", "found", "threshold", "false_alarm_rate", "defects")  # whose scores belong to the older bank
    assert dropped.calibration.threshold != profile.calibration.threshold
    assert [dropped.verdict[name] for name in same] == [profile.verdict[name] for name in same]
    assert dropped.verdict["advice"] == []
    dropped.save_pretrained(tmp_path / "dropped")
    assert InspectionProfile.from_pretrained(tmp_path / "dropped").verdict == dropped.verdict
    twice = dropped.update(detector, drop=good[1:2])
    assert twice.verdict["threshold"] == profile.calibration.threshold
    anew = profile.update(detector, drop=good[:1], verdict=True)
    fitted = InspectionProfile.fit(detector, good[1:], 0.1)
    assert not anew.verdict["before_update"]
    assert anew.verdict == fitted.verdict
    said, photos = [], dropped.features.photos
    moved = tuple(replace(photo, name=f"{tmp_path}/{number}.png") for number, photo in enumerate(photos))
    gone = replace(dropped, features=replace(dropped.features, photos=moved))
    kept = gone.update(detector, verdict=True, report=said.append)
    assert kept.verdict["before_update"] and "no good photo can be opened" in said[-1]


def test_a_photo_is_compared_with_the_bank_without_it(profile, detector):
    sample = sampled_again(detector.reader, profile.features.photos, profile.view, 0)
    bank = profile.compared_bank(detector)
    for photo in profile.features.photos[:3]:
        sampled = sample.tiles[photo.digest]
        reference = bank.without(range(*photo.rows))
        [alone] = compare(detector.model, encode(detector.model, sampled.pixel_values), [sampled.tile], [reference])
        assert alone.score == pytest.approx(photo.score, abs=2e-3)  # whose features are float16


def test_the_sample_depends_on_no_order():
    tiles = View().tiles((20, 20), "photo")

    def drawn(order) -> set[str]:
        sample = PhotoSample(3)
        for digest in order:
            if keep := sample.keeper(digest, tiles):
                keep(TileInput(next(iter(tiles)), np.zeros(1)))
        return set(sample.tiles)

    digests = [f"{number:064x}" for number in range(50)]
    assert drawn(digests) == drawn(reversed(digests)) and len(drawn(digests)) == MOST_PHOTOS
    assert PhotoSample(4).rank(digests[0]) != PhotoSample(3).rank(digests[0])


def test_defects_stay_where_they_may_lie(detector, good):
    """Tiles, and a mask over the lower half of the photos: nothing is pasted under it."""
    ignore = np.zeros((90, 90), bool)
    ignore[45:] = True
    view = View(tile=48, ignore=ignore)
    profile = InspectionProfile.fit(detector, good, 0.1, view=view, storage="float32")
    assert profile.verdict["pasted"] == 40 and profile.verdict["half_of_the_photos"] is None
    sample = sampled_again(detector.reader, profile.features.photos, view, 0)
    photo = profile.features.photos[0]
    sampled = sample.tiles[photo.digest]
    spoiled = spoiled_photo(detector, profile.features, photo, sampled)
    seen = looked_at(sampled.tile, len(spoiled.image))
    assert 0.4 < seen.mean() <= 1
    for cell in range(0, len(CELLS), 3):
        changed = (spoil(spoiled, spoiled.image, 0, cell, 0) != spoiled.image).any(-1)
        assert changed.any() or CELLS[cell][1] == 0.01 or CELLS[cell][0] == "misplaced piece"
        assert not changed[~seen].any()


@pytest.mark.parametrize("kind", KINDS)
def test_defects_have_their_size_and_strength(kind):
    image = render_sample(make_category(5, "metal ring"), 0, 200)[0].astype(np.float32) / 255
    areas = {}
    for size in (0.04, 0.16):
        for strength in CONTRASTS:
            rng = np.random.default_rng(1)
            changed = paste_defect(rng, image, np.ones((200, 200), bool), kind, (size, size), strength, image[::-1])
            difference = np.abs(changed - image).max(-1)
            rows, columns = np.nonzero(difference > 0.01)
            assert max(np.ptp(rows), np.ptp(columns)) <= 200 * size * 1.1 + 3
            areas[size, strength] = float(difference.sum())
    for strength in CONTRASTS:
        assert areas[0.16, strength] > areas[0.04, strength] > 0
    assert areas[0.16, "clear"] > areas[0.16, "faint"]


def test_the_part_is_told_before_a_plain_background_alone():
    y, x = np.mgrid[0:100, 0:100] / 100
    disc = np.hypot(x - 0.5, y - 0.5) < 0.3
    image = np.repeat((0.4 + 0.3 * x)[..., None], 3, -1).astype(np.float32)  # light that falls from one side
    image[disc] = 0.1
    assert (part_of(image) == disc).mean() > 0.99
    noise = np.random.default_rng(0).random((100, 100, 3)).astype(np.float32)
    assert part_of(noise).all()


def test_the_command_tells_and_may_be_silent(good, small_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit = ["fit", "--normal", *good, "--false-alarm-rate", "10%", "--model", str(small_folder), "--quiet"]
    assert main([*fit, "--output", "told"]) == 0
    said = capsys.readouterr().out
    assert "verdict: " in said and "pasted scratches: 1 % long" in said
    assert main(["detect", good[0], "--profile", "told", "--output", "results"]) == 0
    assert main(["report", "results"]) == 0
    assert "What the profile would find" in (tmp_path / "results" / "report.html").read_text()
    capsys.readouterr()
    assert main([*fit, "--output", "silent", "--no-verdict"]) == 0
    assert "verdict" not in capsys.readouterr().out
