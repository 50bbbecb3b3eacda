"""How normal images differ from one another where they are cut into tiles: by place, or alike at all places."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from adaptclip_hf import AnomalyDetectionPipeline, AnomalyDetector, InspectionProfile, PromptBank, View
from adaptclip_hf.engine import PlainReference, turned_copies
from adaptclip_hf.engine.reference import TILED, bank_for
from adaptclip_hf.engine.variations import compare_normals
from adaptclip_hf.modeling.normal_variation import NormalComparison

# 3 x 3 of them
BY_PLACE, AT_PLACE, ALIKE = (View(tile=84, same_place=places) for places in (True, "only", False))
VIEWS = (View(), BY_PLACE, AT_PLACE, ALIKE)


@pytest.fixture(scope="module")
def detector(make_model, small_folder) -> AnomalyDetector:
    model = make_model(clip={"layers": 2}, normal_variation=True, few_shot_adapters=False)
    return AnomalyDetector(model, AnomalyDetector.from_pretrained(small_folder, device="cpu").processor)


@pytest.fixture(autouse=True)
def none_turned(monkeypatch):
    """No copies are turned, however near they bring these photos."""
    monkeypatch.setattr(turned_copies, "NEARER", 0.0)


def part(seed: int, size: tuple[int, int] = (150, 150)) -> Image.Image:
    """A part that always looks alike, whose right half has more grain."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    what = 128 + 60 * np.sin(columns / 9) * np.cos(rows / 13)
    grain = np.random.default_rng(seed).normal(0, 1, what.shape) * np.where(columns > size[0] / 2, 30, 3)
    grey = np.clip(what + grain, 0, 255).astype(np.uint8)
    return Image.fromarray(np.stack([grey] * 3, -1))


def test_tiles_with_a_place_vary_by_their_place(detector):
    photos = [part(seed) for seed in range(4)]
    bank = detector.remember(photos, view=BY_PLACE)
    assert bank.preprocessing[TILED] == "yes" and bank.variation is None
    prepared = detector.prepare(PlainReference(bank, view=BY_PLACE))
    tiles = BY_PLACE.tiles((150, 150), "part")
    assert len(prepared.variations) == len(tiles) == 9
    for tile in tiles:
        there = bank.select(range(tile.number, len(bank), 9))
        expected = NormalComparison.of(there).variation()
        compared = bank_for(prepared, tile)
        assert len(compared) == 4 * len(tile.neighbours())
        for name, each in expected.tensors().items():
            assert torch.equal(getattr(compared.variation, name), each)
    left, right = prepared.variations[3].mean.mean(), prepared.variations[5].mean.mean()
    assert right > 1.2 * left


def test_tiles_without_a_place_are_scaled_alike(detector):
    bank = detector.remember([part(seed) for seed in range(3)], view=ALIKE)
    assert compare_normals(detector.model, bank, ALIKE) == ()
    prepared = detector.prepare(PlainReference(bank, view=ALIKE))
    variation = prepared.prompt_bank.variation
    assert not variation.mean.any() and len(variation.spread.unique()) == 1 and len(variation.whole) == len(bank) == 27
    assert bank_for(prepared, next(iter(ALIKE.tiles((150, 150), "part")))) is prepared.prompt_bank


def test_whole_images_are_one_tile_at_one_place(detector):
    photos, found = [part(seed) for seed in range(3)], []
    for view in (View(), View(same_place=True)):
        bank = detector.remember(photos, view=view)
        assert TILED not in bank.preprocessing and bank.variation is not None
        prepared = detector.prepare(PlainReference(bank, view=view))
        [tile] = view.tiles((150, 150), "part")
        assert bank_for(prepared, tile) is prepared.prompt_bank
        unknown = replace(bank, variation=None)  # as an older version made it
        found += [detector.detect(part(9), prompt_bank=each, view=view)[0].score for each in (bank, unknown)]
    assert found == pytest.approx([found[0]] * 4, abs=1e-6)


@pytest.mark.parametrize("view", VIEWS)
def test_one_of_the_normal_images_has_a_map_near_zero(detector, view):
    photos = [part(seed) for seed in range(4)]
    bank = detector.remember(photos, view=view)
    [own], [other] = (detector.detect(image, prompt_bank=bank, view=view) for image in (photos[1], part(9)))
    assert own.anomaly_map.max() < 1e-3 < other.anomaly_map.max() and own.score < other.score


def test_one_of_a_profiles_own_photos_is_marked(detector, tmp_path):
    paths = [str(tmp_path / f"{seed}.png") for seed in range(4)]
    for seed, path in enumerate(paths):
        part(seed).save(path)
    profile = InspectionProfile.fit(detector, paths, false_alarm_rate=0.4, model="small")
    own, other = detector.detect([paths[1], part(20)], profile=profile)
    assert own.among_normals and not other.among_normals and own.anomaly_map.max() < 0.1 * other.anomaly_map.max()


@pytest.mark.parametrize("view", VIEWS)
def test_the_pipeline_scores_alike(detector, view, monkeypatch):
    detect = AnomalyDetectionPipeline(model=detector.model, processor=detector.processor)
    photos = [part(seed) for seed in range(3)]
    bank = detector.remember(photos, view=view)
    [expected] = detector.detect(part(9), prompt_bank=bank, view=view)
    found = [
        detect(part(9), view=view, **given)["score"] for given in ({"normal_images": photos}, {"prompt_bank": bank})
    ]
    assert found == pytest.approx([expected.score] * 2, abs=1e-6)
    monkeypatch.setattr(NormalComparison, "of", None)  # not compared again
    assert detect(part(9), view=view, prompt_bank=bank)["score"] == found[1]


@pytest.mark.parametrize("view", VIEWS)
def test_photos_of_a_profile_are_scored_as_others_are(detector, view):
    """Each against the rest: as if it had been left out of the bank, which is made anew."""
    photos = [part(seed) for seed in range(4)]
    settings = {"false_alarm_rate": 0.4, "calibration": "leave-one-out", "storage": "float32"}
    profile = InspectionProfile.fit(detector, photos, view=view, model="small", **settings)
    for number, photo in enumerate(photos[:2]):
        rest = detector.remember([each for each in photos if each is not photo], view=view)
        [expected] = detector.detect(photo, prompt_bank=rest, view=view)
        assert profile.features.photos[number].score == pytest.approx(expected.score, abs=1e-5)
    [by_profile] = detector.detect(part(9), profile=profile)
    [by_bank] = detector.detect(part(9), prompt_bank=detector.remember(photos, view=view), view=view)
    assert by_profile.score == pytest.approx(by_bank.score, abs=1e-5)


@pytest.mark.parametrize("view", VIEWS)
def test_a_bank_for_each_image_scores_as_one_for_all(detector, view):
    banks = [detector.remember([part(seed) for seed in seeds], view=view) for seeds in ((0, 1, 2), (3, 4))]
    expected = [detector.detect(part(9), prompt_bank=bank, view=view)[0] for bank in banks]
    for batch_size in (1, 2):
        found = detector.detect([part(9)] * 2, prompt_bank=banks, view=view, batch_size=batch_size)
        for one, other in zip(found, expected, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-6)
            np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-6)


def test_a_bank_keeps_its_tiles_apart_when_it_is_saved(detector, tmp_path):
    bank = detector.remember([part(seed) for seed in range(3)], view=BY_PLACE)
    again = PromptBank.from_pretrained(bank.save_pretrained(tmp_path / "bank.safetensors"))
    assert again == bank and again.preprocessing[TILED] == "yes"
    found, expected = (detector.detect(part(9), prompt_bank=each, view=BY_PLACE) for each in (again, bank))
    assert found[0].score == expected[0].score
