"""The front door: `pipeline("anomaly-detection")`."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from adaptclip_hf import AnomalyDetectionPipeline, AnomalyDetector, InspectionProfile, PromptBank, View
from adaptclip_hf.engine.colour_scale import ColourScale
from adaptclip_hf.engine.heatmap import render_heatmap


@pytest.fixture(scope="module")
def detect(small_folder):
    return pipeline("anomaly-detection", model=str(small_folder), device="cpu")


def test_one_image_zero_shot(detect, photos):
    result = detect(photos["bad"][0])
    assert isinstance(detect, AnomalyDetectionPipeline)
    assert 0 <= result["score"] <= 1 and result["label"] is None and result["path"] == photos["bad"][0]
    assert result["anomaly_map"].shape == (150, 170) and result["anomaly_map"].dtype == np.float32
    assert result["heatmap"].size == (170, 150)


def scores(results):
    return [result["score"] for result in results]


@pytest.mark.works("Pipelines", "one image, lists, generators and `batch_size`")
def test_list_batch_generator_and_one_by_one_agree(detect, photos):
    paths = photos["good"] + photos["bad"]
    expected = [detect(path, normal_images=photos["normal"])["score"] for path in paths]
    for batch_size in (1, 2, 4):
        found = scores(detect(paths, normal_images=photos["normal"], batch_size=batch_size))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    generated = detect((path for path in paths), normal_images=photos["normal"], batch_size=2)
    np.testing.assert_allclose(scores(generated), expected, atol=1e-6)


@pytest.mark.works("Pipelines", "paths, PIL images and arrays")
def test_images_arrays_and_paths_agree(detect, photos):
    path = photos["bad"][0]
    image = Image.open(path)
    assert detect(path)["score"] == detect(image)["score"] == detect(np.asarray(image))["score"]


def test_bank_equals_normal_images(detect, photos, tmp_path):
    bank = detect.encode_prompts(photos["normal"])
    file = bank.save_pretrained(tmp_path / "ring.safetensors")
    expected = detect(photos["bad"][0], normal_images=photos["normal"])["score"]
    assert expected == detect(photos["bad"][0], prompt_bank=bank)["score"]
    assert expected == detect(photos["bad"][0], prompt_bank=str(file))["score"]
    assert bank.preprocessing == PromptBank.from_pretrained(file).preprocessing != {}
    assert detect(photos["bad"][0])["score"] != expected


def test_normal_images_may_be_given_once(small_folder, photos, detect):
    ready = pipeline("anomaly-detection", model=str(small_folder), normal_images=photos["normal"], device="cpu")
    assert ready(photos["bad"][1])["score"] == detect(photos["bad"][1], normal_images=photos["normal"])["score"]


@pytest.mark.works("Pipelines", "`save_pretrained` of a pipeline")
def test_saved_pipeline_loads_and_scores_the_same(detect, photos, tmp_path):
    detect.save_pretrained(tmp_path)
    again = pipeline("anomaly-detection", model=str(tmp_path), device="cpu")
    assert again(photos["bad"][0])["score"] == detect(photos["bad"][0])["score"]


def test_no_model_means_the_embedded_one(photos):
    from adaptclip_hf import DEFAULT_MODEL

    assert pipeline("anomaly-detection", device="cpu").model.name_or_path == DEFAULT_MODEL


def test_threshold_sets_labels(detect, photos):
    score = detect(photos["bad"][0])["score"]
    assert detect(photos["bad"][0], threshold=score)["label"] == "normal"
    assert detect(photos["bad"][0], threshold=score - 1e-3)["label"] == "anomalous"


def test_object_name(small_folder, photos):
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    before = detect(photos["bad"][0])["score"]
    assert detect(photos["bad"][0], object_name="metal ring")["score"] != before
    assert detect(photos["bad"][0], object_name="object")["score"] == pytest.approx(before, abs=1e-6)


@pytest.mark.works("Pipelines", "`dtype=` of a pipeline")
def test_bfloat16_pipeline(small_folder, photos, detect):
    half = pipeline("anomaly-detection", model=str(small_folder), dtype=torch.bfloat16, device="cpu")
    found = half(photos["bad"][0], normal_images=photos["normal"])["score"]
    assert found == pytest.approx(detect(photos["bad"][0], normal_images=photos["normal"])["score"], abs=0.05)


def test_heatmap_scale_is_fixed():
    grey = Image.new("RGB", (4, 2), (100, 100, 100))
    flat, peak = np.full((2, 4), 0.1, np.float32), np.full((2, 4), 0.1, np.float32)
    peak[0, 0] = 1.0
    one, other = (np.asarray(render_heatmap(grey, each)) for each in (flat, peak))
    np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(render_heatmap(grey, np.zeros((2, 4), np.float32)), grey)
    assert other[0, 0, 0] > 150 and other[0, 0, 1] < 60


def test_colours_begin_at_what_good_photos_reach():
    grey = Image.new("RGB", (4, 1), (100, 100, 100))
    for start in (0.0, 0.3, 0.4, 0.93, 1.0):
        scale = ColourScale(start)
        values = np.array([[0, start, min(1, start + 1e-3), 1]], np.float32)
        drawn = np.asarray(render_heatmap(grey, values, scale)).astype(int)[0]
        assert (drawn[:2] == 100).all()  # what good photos reach stays as it is
        if start < 1:
            assert drawn[2, 2] > 120 > drawn[2, 0]  # blue at once above it
            assert drawn[3, 0] > 150 and drawn[3, 1] < 60  # red at 1, whatever the start
        told = scale.to_json()
        assert told["start"] == start == told["stops"][0]["value"] and told["stops"][-1]["value"] == 1
    fixed = ColourScale().to_json()
    assert fixed["start"] is None and fixed["stops"][1] == {"value": 0.15, "colour": "#0060ff", "opacity": 0.3}


def test_an_image_with_other_tiles_than_the_normal_ones_is_refused_by_name(detect, photos):
    view = View(tile=84, same_place=True)
    other = Image.new("RGB", (90, 300))
    for batch_size in (1, 3):
        with pytest.raises(ValueError, match=r"the image is cut into .* to compare each place with its own"):
            detect([other], normal_images=photos["normal"], view=view, batch_size=batch_size)


def test_a_pipeline_with_a_profile_takes_nothing_beside_it(small_folder, photos):
    detector = AnomalyDetector.from_pretrained(small_folder, device="cpu")
    profile = InspectionProfile.fit(detector, [*photos["normal"], *photos["good"], *photos["bad"]], 0.2, verdict=False)
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu", profile=profile)
    found = detect(photos["bad"][0])
    assert found["p_value"] is not None
    own = render_heatmap(Image.open(photos["bad"][0]).convert("RGB"), found["anomaly_map"], profile.colours)
    np.testing.assert_array_equal(found["heatmap"], own)
    for beside in ({"threshold": 0.5}, {"normal_images": photos["normal"]}, {"object_name": "ring"}):
        with pytest.raises(ValueError, match="give it alone"):
            detect(photos["bad"][0], **beside)
    # nor is what the pipeline was made with mixed into a profile that a call names
    named = pipeline("anomaly-detection", model=str(small_folder), device="cpu", object_name="ring")
    assert named(photos["bad"][0], profile=profile)["score"] == detect(photos["bad"][0])["score"]
