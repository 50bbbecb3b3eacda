"""Large banks, which are searched in groups: answers are those of the plain search, however photos are looked at."""

import numpy as np
import pytest
from PIL import Image

from adaptclip_hf import AnomalyDetector, View
from adaptclip_hf.engine import PlainReference
from adaptclip_hf.modeling import prompt_bank, token_groups
from adaptclip_hf.pipeline import AnomalyDetectionPipeline


@pytest.fixture(scope="module")
def detector(small_folder) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(small_folder, device="cpu")


@pytest.fixture
def in_groups(monkeypatch):
    """Every bank counts as large, and all groups are searched: then the search is exact."""

    def switch(groups: int = 10**6):
        monkeypatch.setattr(prompt_bank, "LARGE", 1)
        monkeypatch.setattr(token_groups, "TOKENS_A_GROUP", 8)
        monkeypatch.setattr(token_groups, "GROUPS_SEARCHED", groups)

    return switch


def texture(width: int, height: int, seed: int) -> Image.Image:
    fine = np.random.default_rng(seed).normal(128, 20, (height, width, 3))
    return Image.fromarray(np.clip(fine, 0, 255).astype(np.uint8))


VIEWS = {
    "whole": View(),
    "all tiles": View(tile=64, same_place=False),
    "its place": View(tile=64, same_place="only"),
    "places beside it": View(tile=64, same_place=True),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_answers_are_those_of_the_plain_search(detector, view, in_groups):
    normal: list[Image.Image] = [texture(150, 100, seed) for seed in range(4)]
    queries = [texture(150, 100, 9), normal[2]]
    bank = detector.remember(normal, view=view)
    expected = detector.detect(queries, prompt_bank=bank, view=view)
    pipeline = AnomalyDetectionPipeline(detector.model, processor=detector.processor)
    in_groups()
    ready = detector.prepare(PlainReference(prompt_bank=bank, view=view))
    each = ready.places or [ready.prompt_bank]
    assert all(one.is_grouped for one in each) and (len(each) > 1) == view.by_place
    found = detector.detect(queries, prompt_bank=bank, view=view)
    piped = pipeline(queries, prompt_bank=bank, view=view)
    for one, other, third in zip(found, expected, piped, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5) and third["score"] == pytest.approx(
            one.score, abs=1e-5
        )
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-5)
    assert not found[0].among_normals and found[1].among_normals and piped[1]["among_normals"]


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_photo_of_the_bank_is_known_where_few_groups_are_searched(detector, view, in_groups):
    normal = [texture(150, 100, seed) for seed in range(4)]
    bank = detector.remember(normal, view=view)
    in_groups(1)
    assert all(each.among_normals for each in detector.detect(normal, prompt_bank=bank, view=view))


def test_the_batch_of_a_photo_does_not_matter(detector, in_groups):
    bank = detector.remember([texture(90, 90, seed) for seed in range(6)])
    in_groups(2)
    queries = [texture(90, 90, seed) for seed in range(10, 15)]
    together = list(detector.stream(queries, bank, batch_size=5))
    for query, result in zip(queries, together, strict=True):
        [alone] = detector.detect(query, prompt_bank=bank)
        assert alone.score == pytest.approx(result.score, abs=1e-6)


def test_a_pipeline_groups_the_same_bank_once(detector, in_groups, monkeypatch):
    bank = detector.remember([texture(90, 90, seed) for seed in range(3)])
    pipeline = AnomalyDetectionPipeline(detector.model, processor=detector.processor)
    in_groups()
    made, arranged = [], token_groups.arranged
    monkeypatch.setattr(token_groups, "arranged", lambda tokens: (made.append(1), arranged(tokens))[1])
    for _ in range(3):
        pipeline(texture(90, 90, 7), prompt_bank=bank)
    assert len(made) == len(bank.features)
