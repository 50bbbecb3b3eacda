"""Images of any mode and form to pixel values, and maps back to image sizes."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from adaptclip_hf import AdaptCLIPImageProcessor, AdaptCLIPProcessor
from adaptclip_hf.processing.image_loading import load_image, load_mask

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])


@pytest.fixture
def image_processor():
    return AdaptCLIPImageProcessor(size={"height": 64, "width": 64})


@pytest.fixture
def photo():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).resize((120, 80), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", ["rgb", "grey"])
def test_bit_identical_to_the_reference(shared, name):
    folder = shared / "reference" / "preprocessing"
    pixel_values = AdaptCLIPImageProcessor()(folder / f"{name}_input.png")["pixel_values"][0].numpy()
    expected = np.asarray(Image.open(folder / f"{name}_resized_518.png").convert("RGB"))
    restored = (pixel_values.transpose(1, 2, 0) * STD + MEAN) * 255
    assert np.abs(restored - expected).max() < 1e-3
    exact = (expected.astype(np.float32) / 255 - MEAN.astype(np.float32)) / STD.astype(np.float32)
    np.testing.assert_allclose(pixel_values.transpose(1, 2, 0), exact, atol=1e-6)


def test_mask_is_bit_identical_to_the_reference(shared):
    folder = shared / "reference" / "preprocessing"
    features = AdaptCLIPImageProcessor()(folder / "rgb_input.png", masks=folder / "mask_input.png")
    expected = np.asarray(Image.open(folder / "mask_518.png")) > 0
    assert features["mask_labels"].dtype == torch.float32
    np.testing.assert_array_equal(features["mask_labels"][0].numpy() > 0, expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr", "HSV", "La"])
def test_modes_give_what_rgb_gives(photo, mode):
    grey = mode in ("1", "L", "LA", "I", "I;16", "F", "La")
    expected = photo.convert("1" if mode == "1" else "L").convert("RGB") if grey else photo
    values = np.asarray(photo.convert("L"))
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    elif mode == "I":
        image = Image.fromarray(values.astype(np.int32) * 257)
    elif mode == "F":
        image = Image.fromarray((values / 255).astype(np.float32))
    elif mode == "La":
        image = photo.convert("LA").convert("La")
    else:
        image = photo.convert(mode)
    assert image.mode == mode
    found = load_image(image)
    assert found.mode == "RGB"
    tolerance = {"P": 90, "YCbCr": 3, "HSV": 12, "CMYK": 1}.get(mode, 0)
    assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).max() <= tolerance


def test_palette_with_transparency_and_exif_rotation(photo, tmp_path):
    palette = photo.quantize(16)
    palette.info["transparency"] = 0
    palette.save(tmp_path / "palette.png")
    assert load_image(tmp_path / "palette.png").mode == "RGB"
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.png", exif=exif)
    assert load_image(tmp_path / "turned.png").size == (photo.height, photo.width)
    np.testing.assert_array_equal(load_image(tmp_path / "turned.png"), photo.rotate(-90, expand=True))


def test_paths_urls_arrays_and_tensors_agree(photo, image_processor, tmp_path):
    photo.save(tmp_path / "a.png")
    array = np.asarray(photo)
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    import base64

    forms = [
        photo,
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        (tmp_path / "a.png").as_uri().replace("file://", ""),
        "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        array,
        array.transpose(2, 0, 1),
        array.astype(np.float32) / 255,
        array.astype(np.uint16) * 257,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        torch.from_numpy(array / 255).permute(2, 0, 1),
    ]
    pixel_values = image_processor(forms)["pixel_values"]
    assert pixel_values.shape == (len(forms), 3, 64, 64)
    assert (pixel_values == pixel_values[:1]).all()


@pytest.mark.works("Processor", "text and images in one call")
def test_processor_call(photo, tokenizer):
    processor = AdaptCLIPProcessor(AdaptCLIPImageProcessor(size={"height": 64, "width": 64}), tokenizer)
    mask = Image.new("L", photo.size, 0)
    features = processor(
        [photo, photo], prompt_images=[[photo] * 3] * 2, masks=[mask, mask], text=["a photo of a bottle.", "a screw"]
    )
    assert features["pixel_values"].shape == (2, 3, 64, 64)
    assert features["prompt_pixel_values"].shape == (2, 3, 3, 64, 64)
    assert features["mask_labels"].shape == (2, 64, 64)
    assert features["input_ids"].shape == features["attention_mask"].shape
    assert processor(photo, prompt_images=[photo, photo])["prompt_pixel_values"].shape == (1, 2, 3, 64, 64)
    assert torch.equal(features["prompt_pixel_values"][1, 2], features["pixel_values"][0])


@pytest.mark.works("Processor", "`save_pretrained` and `AutoProcessor`")
def test_processor_save_and_load(photo, tokenizer, tmp_path):
    processor = AdaptCLIPProcessor(AdaptCLIPImageProcessor(size={"height": 70, "width": 70}), tokenizer)
    processor.save_pretrained(tmp_path)
    loaded = AdaptCLIPProcessor.from_pretrained(tmp_path)
    assert torch.equal(loaded(photo)["pixel_values"], processor(photo)["pixel_values"])
    assert loaded.image_processor.fingerprint() == processor.image_processor.fingerprint()
    from transformers import AutoImageProcessor, AutoProcessor

    assert isinstance(AutoProcessor.from_pretrained(tmp_path), AdaptCLIPProcessor)
    assert isinstance(AutoImageProcessor.from_pretrained(tmp_path), AdaptCLIPImageProcessor)


def test_post_processing(image_processor):
    maps = torch.rand(2, 8, 8)
    outputs = SimpleNamespace(anomaly_scores=torch.tensor([0.2, 0.5]), anomaly_maps=maps)
    assert image_processor.post_process_anomaly_detection(outputs, threshold=0.5)[1]["label"] == "normal"
    first, second = image_processor.post_process_anomaly_detection(outputs, [(20, 30), (8, 8)], threshold=0.4)
    assert (first["label"], second["label"]) == ("normal", "anomalous")
    assert first["anomaly_map"].shape == (20, 30) and first["anomaly_map"].dtype == np.float32
    assert maps[0].min() <= first["anomaly_map"].min() and first["anomaly_map"].max() <= maps[0].max()
    np.testing.assert_array_equal(second["anomaly_map"], maps[1])
    assert image_processor.post_process_anomaly_detection(outputs)[0]["label"] is None


def test_masks_of_any_layout():
    truth = np.zeros((20, 30), bool)
    truth[5:9, 10:25] = True
    layouts = [
        truth,
        truth[None],
        np.stack([truth] * 3, -1).astype(np.uint8) * 255,
        torch.from_numpy(truth),
        torch.from_numpy(truth)[None],
        torch.from_numpy(np.stack([truth] * 3)).float(),
        torch.from_numpy(np.stack([truth, truth, truth, np.ones_like(truth)])),
        Image.fromarray(truth),
    ]
    for layout in layouts:
        np.testing.assert_array_equal(load_mask(layout), truth)
    with pytest.raises(ValueError, match=r"got \(3, 20, 30\)"):
        load_mask(np.stack([truth] * 3))


class OnADevice(torch.Tensor):
    """As a tensor that is not on the CPU: NumPy cannot read it."""

    def __array__(self, *arguments, **more):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_tensors_that_are_not_on_the_cpu():
    pixels = torch.randint(0, 255, (3, 20, 30), dtype=torch.uint8)
    assert load_image(pixels.as_subclass(OnADevice)) == load_image(pixels)
    mask = torch.randint(0, 2, (20, 30))
    np.testing.assert_array_equal(load_mask(mask.as_subclass(OnADevice)), mask.numpy() > 0)


def test_every_setting_that_pixel_values_depend_on_is_in_the_fingerprint(image_processor):
    known = image_processor.fingerprint()
    for name, value in (("do_normalize", False), ("do_rescale", False), ("do_resize", False), ("image_std", [1, 1, 1])):
        assert AdaptCLIPImageProcessor(**{name: value}).fingerprint() != known


def test_masks_follow_a_size_of_the_call(photo, image_processor):
    features = image_processor(photo, masks=np.ones((20, 30)), size={"height": 28, "width": 28})
    assert features["pixel_values"].shape[-2:] == features["mask_labels"].shape[-2:] == (28, 28)
