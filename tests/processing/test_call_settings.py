"""Settings of a call and of loading, as people know them of transformers' processors: honoured or refused."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPImageProcessorPil, pipeline
from transformers.utils import logging

from adaptclip_hf import AdaptCLIPImageProcessor, AdaptCLIPModel, AdaptCLIPProcessor, AnomalyDetector
from adaptclip_hf.loading import load_model_and_processor

LONG = ["a photo of a " + "very " * 200 + "long screw"]


@pytest.fixture
def image_processor():
    return AdaptCLIPImageProcessor(size=28)


@pytest.fixture
def processor(image_processor, tokenizer):
    return AdaptCLIPProcessor(image_processor, tokenizer)


@pytest.fixture
def array():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.works("Processor", "`truncation=`, `max_length=`, `padding=`")
def test_text_is_cut_where_asked(processor, array):
    for settings in ({"truncation": True, "max_length": 77}, {"text_kwargs": {"truncation": True, "max_length": 77}}):
        assert processor(text=LONG, **settings)["input_ids"].shape == (1, 77)
        features = processor(array, text=LONG, **settings)
        assert features["input_ids"].shape == (1, 77) and features["pixel_values"].shape == (1, 3, 28, 28)
    assert processor(text=LONG)["input_ids"].shape[1] > 200
    two = processor(text=["a", *LONG], padding=False, return_tensors=None)["input_ids"]
    assert len(two[0]) < len(two[1])


@pytest.mark.works("Processor", "`text_kwargs=`, `images_kwargs=`")
def test_settings_of_one_part_reach_it(processor, array):
    features = processor(array, text="a", images_kwargs={"size": 42}, padding="max_length", max_length=20)
    assert features["pixel_values"].shape == (1, 3, 42, 42) and features["input_ids"].shape == (1, 20)
    with pytest.raises(ValueError, match="passed two times"):
        processor(array, images_kwargs={"size": 42}, size=28)
    with pytest.raises(TypeError, match="siez"):
        processor(array, images_kwargs={"siez": 42})


def test_a_misspelt_argument_is_told(processor, array, monkeypatch):
    told = []
    monkeypatch.setattr(logging.get_logger("transformers.processing_utils"), "warning_once", told.append)
    processor(array, trunction=True)
    processor(text="a", trunction=True)
    assert len(told) == 2 and all("`trunction` is not a valid argument" in each for each in told)


@pytest.mark.works("Processor", "`return_tensors='np'` and `None`")
@pytest.mark.parametrize("kind", ["np", None])
def test_other_kinds_of_output(processor, array, kind):
    features = processor([array] * 2, prompt_images=[[array] * 3] * 2, masks=[array] * 2, return_tensors=kind)
    assert np.shape(features["pixel_values"]) == (2, 3, 28, 28)
    assert np.shape(features["prompt_pixel_values"]) == (2, 3, 3, 28, 28)
    assert np.shape(features["mask_labels"]) == (2, 28, 28)
    assert not any(torch.is_tensor(each) for each in features.values())


@pytest.mark.works("Loading", "`subfolder=` of a processor")
def test_a_subfolder(small_folder, array, tmp_path):
    processor = AdaptCLIPProcessor.from_pretrained(small_folder)
    processor.save_pretrained(tmp_path / "a")
    for loader in (AdaptCLIPProcessor, AutoProcessor):
        loaded = loader.from_pretrained(tmp_path, subfolder="a")
        assert torch.equal(loaded(array)["pixel_values"], processor(array)["pixel_values"])
        assert torch.equal(loaded(text="a screw")["input_ids"], processor(text="a screw")["input_ids"])
    with pytest.raises(OSError, match=r"No processor at .*b: it lacks processor_config.json"):
        AdaptCLIPProcessor.from_pretrained(tmp_path, subfolder="b")


def test_parts_that_are_given_replace_those_of_the_folder(small_folder, image_processor, tokenizer):
    loaded = AdaptCLIPProcessor.from_pretrained(small_folder, image_processor=image_processor, tokenizer=tokenizer)
    assert loaded.image_processor is image_processor and loaded.tokenizer is tokenizer


@pytest.mark.works("Processor", "`do_rescale=False` with floats in [0, 1]")
def test_values_keep_their_range_without_rescaling(image_processor, array):
    rescaled = image_processor(array)["pixel_values"]
    floats = (array / 255).astype(np.float32)
    for values in (floats, torch.from_numpy(floats).permute(2, 0, 1), Image.fromarray(floats[..., 0])):
        found = image_processor(values, do_rescale=False)["pixel_values"]
        assert found.abs().max() < 3
        assert torch.equal(found, image_processor(values)["pixel_values"])
    assert torch.equal(image_processor(floats, do_rescale=False)["pixel_values"], rescaled)
    stock = CLIPImageProcessorPil(size={"height": 28, "width": 28}, do_center_crop=False)
    for values in (floats, array):
        expected = stock(values, do_rescale=False, return_tensors="pt")["pixel_values"]
        assert image_processor(values, do_rescale=False)["pixel_values"].allclose(expected, atol=0.05)
    assert image_processor(array, do_rescale=False, do_normalize=False)["pixel_values"].max() > 200


@pytest.mark.works("Processor", "`size=` at the call")
def test_a_size_is_one_number_or_two(image_processor, array):
    for size in (42, (42, 42), {"height": 42, "width": 42}):
        assert image_processor(array, size=size)["pixel_values"].shape == (1, 3, 42, 42)
        assert image_processor(array, masks=array, size=size)["mask_labels"].shape == (1, 42, 42)
        assert AdaptCLIPImageProcessor(size=size).size == {"height": 42, "width": 42}
    for size in ({"shortest_edge": 42}, {"longest_edge": 42}, {"max_height": 42, "max_width": 42}):
        with pytest.raises(ValueError, match="size must be the height and width"):
            image_processor(array, size=size)
        with pytest.raises(ValueError, match="size must be the height and width"):
            AdaptCLIPImageProcessor(size=size)


@pytest.mark.parametrize("setting", ["do_center_crop", "do_pad"])
def test_images_stay_whole(image_processor, array, setting):
    with pytest.raises(ValueError, match=f"{setting} must be false"):
        image_processor(array, **{setting: True, "crop_size": 20})


def test_masks_have_the_size_of_images_that_are_not_resized(image_processor, array):
    features = image_processor(array, masks=array[..., 0] > 100, do_resize=False)
    assert features["pixel_values"].shape == (1, 3, 40, 60)
    np.testing.assert_array_equal(features["mask_labels"][0].numpy(), array[..., 0] > 100)


def test_channels_are_kept_where_asked(image_processor, array):
    settings = {"do_convert_rgb": False, "do_normalize": False}
    transparent = np.dstack([array, np.full((40, 60), 255, np.uint8)])
    for image in (transparent, torch.from_numpy(transparent).permute(2, 0, 1), Image.fromarray(transparent)):
        found = image_processor(image, **settings)["pixel_values"]
        assert found.shape == (1, 4, 28, 28) and (found[:, 3] == 1).all()
    for image in (array[..., 0], Image.fromarray(array[..., 0])):
        assert image_processor(image, **settings)["pixel_values"].shape == (1, 1, 28, 28)


def test_another_backend_is_refused(small_folder):
    for loader in (AdaptCLIPProcessor, AdaptCLIPImageProcessor, AutoProcessor):
        with pytest.raises(ValueError, match="no backend 'torchvision'"):
            loader.from_pretrained(small_folder, backend="torchvision")
        loader.from_pretrained(small_folder, backend="pil")


@pytest.mark.works("Loading", "`subfolder=` of a model")
def test_a_model_in_a_subfolder(small_folder, small_model, array, tmp_path):
    (tmp_path / "a").symlink_to(small_folder)
    model, processor = load_model_and_processor(tmp_path, subfolder="a")
    assert model.weights_digest() == small_model.weights_digest() and processor(array)["pixel_values"].shape[0] == 1


def test_rows_of_a_data_set(processor, photos):
    rows = datasets.Dataset.from_dict({"image": photos["bad"][:2], "label": [1, 1]})
    rows = rows.cast_column("image", datasets.Image())
    expected = processor(photos["bad"][:2])["pixel_values"]
    for each in (rows, rows.cast_column("image", datasets.Image(decode=False))):
        for images in (each, each[:], each["image"], [each[0], each[1]]):
            assert torch.equal(processor(images)["pixel_values"], expected)
        assert torch.equal(processor(each[0])["pixel_values"], expected[:1])
    for wrong, told in (({"label": 1}, "got label"), ({"image": None}, "got image"), ({}, "an empty one")):
        with pytest.raises(ValueError, match=f"a data set's row with an `image`.*{told}"):
            processor(wrong)


@pytest.mark.works("Pipelines", "rows of a data set")
def test_detectors_and_pipelines_take_rows(small_folder, photos):
    rows = datasets.Dataset.from_dict({"image": photos["bad"][:2]}).cast_column("image", datasets.Image(decode=False))
    detector = AnomalyDetector.from_pretrained(small_folder, device="cpu")
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    expected = [result.score for result in detector.detect(photos["bad"][:2])]
    for images in (rows, [rows[0], rows[1]], rows[:]):
        assert [result.score for result in detector.detect(images)] == expected
    assert detector.detect(rows[0])[0].score == detect(rows[0])["score"] == expected[0]
    assert [result["score"] for result in detect(rows)] == expected
    assert len(detector.remember(rows)) == 2


def test_lists_of_images_for_each_text_are_images(image_processor, array):
    together = image_processor([array, array])["pixel_values"]
    assert (image_processor([[array], [array]])["pixel_values"] == together).all()


@pytest.mark.works("Loading", "`variant=`")
def test_a_variant_of_the_weights(small_folder, small_model, photos, tmp_path):
    small_model.save_pretrained(tmp_path, variant="fp16")
    AdaptCLIPProcessor.from_pretrained(small_folder).save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    with pytest.raises(OSError, match=r"expected model\.bf16\.safetensors, or model\.safetensors\.index\.bf16\.json"):
        AdaptCLIPModel.from_pretrained(tmp_path, variant="bf16")
    detector = AnomalyDetector.from_pretrained(tmp_path, variant="fp16", device="cpu")
    assert detector.model.clip.text_model is None
    plain = AnomalyDetector.from_pretrained(small_folder, device="cpu")
    assert detector.detect(photos["bad"][0])[0].score == plain.detect(photos["bad"][0])[0].score
    assert detector.encode_text("screw") is not None
    with pytest.raises(FileNotFoundError, match=r"it lacks model\.fp8\.safetensors"):
        AnomalyDetector.from_pretrained(tmp_path, variant="fp8")


def test_an_empty_list_of_sentences_is_told(processor, array):
    for settings in ({}, {"images": array}):
        with pytest.raises(ValueError, match="at least one sentence"):
            processor(text=[], **settings)
