"""Bad input, kind by kind: each is a clear error that names its cause."""

import base64
import pickle
import re
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from small_clip import small_clip_config
from transformers import CLIPModel, pipeline

from adaptclip_hf import AdaptCLIPConfig, AdaptCLIPModel, PromptBank
from adaptclip_hf.cli import main
from adaptclip_hf.conversion import convert, read_clip
from adaptclip_hf.processing.image_loading import load_image, load_mask
from adaptclip_hf.synthetic import write_dataset


@pytest.fixture(scope="module")
def detect(small_folder):
    return pipeline("anomaly-detection", model=str(small_folder), device="cpu")


def truncated(path):
    Image.effect_noise((200, 200), 60).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:2000])


def wrong_pixels(path):
    Image.fromarray(np.full((20, 20), 70000, np.int32)).save(path)


FILES = {
    "missing.png": (lambda path: None, "No such image file"),
    "empty.png": (lambda path: path.touch(), "is empty"),
    "truncated.jpg": (truncated, "truncated"),
    "text.png": (lambda path: path.write_text("hello"), "not an image format"),
    "folder.png": (lambda path: path.mkdir(), "is a folder"),
    "one_pixel.png": (lambda path: Image.new("RGB", (1, 1)).save(path), "1x1 pixels"),
    "ribbon.png": (lambda path: Image.new("L", (20000, 10)).save(path), "20000x10 pixels"),
    "deep.tiff": (wrong_pixels, "70000"),
}


@pytest.mark.parametrize("name", FILES)
def test_image_files(detect, tmp_path, name):
    make, message = FILES[name]
    make(tmp_path / name)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        detect(str(tmp_path / name))
    assert name in str(error.value)


ARRAYS = {
    "NaN": (torch.full((3, 20, 20), float("nan")), "not finite"),
    "infinity": (np.full((20, 20, 3), np.inf, np.float32), "not finite"),
    "normalised floats": (np.random.default_rng(0).normal(size=(20, 20, 3)), r"expected \[0, 1\], not normalised"),
    "two channels": (np.zeros((20, 20, 2), np.uint8), "1, 3 or 4 channels"),
    "five channels": (torch.zeros(5, 20, 20, dtype=torch.uint8), "1, 3 or 4 channels"),
    "one dimension": (np.zeros(20, np.uint8), "Expected an image of shape"),
    "no pixels": (np.zeros((0, 20, 3), np.uint8), "Expected an image of shape"),
    "negative integers": (np.full((20, 20), -1), "unsigned integers"),
    "complex numbers": (np.zeros((20, 20), complex), "complex128"),
    "a number": (3, "got int"),
    "nothing": (None, "got NoneType"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_and_tensors(kind):
    source, message = ARRAYS[kind]
    with pytest.raises(ValueError, match=message):
        load_image(source)


def test_an_address_that_does_not_answer():
    with pytest.raises(ValueError, match="cannot be fetched"):
        load_image("http://127.0.0.1:9/nothing.png")


def test_text_and_bytes_that_are_no_image(photos):
    content = open(photos["bad"][0], "rb").read()  # noqa: PTH123, SIM115
    expected = load_image(photos["bad"][0])
    for source in (content, bytearray(content), base64.b64encode(content).decode(), {"path": "x", "bytes": content}):
        assert load_image(source) == expected
    for source, message in {
        "s3://bucket/a.jpg": r"s3://bucket/a\.jpg: s3:// cannot be read",
        "gs://b//c.png": r"gs://b//c\.png: gs:// cannot be read",
        "é" * 5000: "neither a path, being 5000 characters long, nor base64",
        "A" * 4000: "the base64 text A+... cannot be opened",
        b"": "there are no bytes",
        b"hello": "5 bytes cannot be opened as an image",
    }.items():
        with pytest.raises(ValueError, match=message) as error:
            load_image(source)
        assert len(str(error.value)) < 400


def test_masks(tmp_path):
    (tmp_path / "mask.png").write_text("no mask")
    with pytest.raises(ValueError, match=r"mask\.png"):
        load_mask(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="shape"):
        load_mask(np.zeros((2, 3, 4, 5)))


def test_pixel_values_of_the_wrong_form(small_model):
    size = small_model.config.image_size
    wrong = {
        "NaN or infinity": torch.full((1, 3, size, size), float("nan")),
        rf"shape \(B, 3, {size}, {size}\), got \(1, 4": torch.zeros(1, 4, size, size),
        r"got \(3, ": torch.zeros(3, size, size),
        r"got \(1, 3, 14, 14\)": torch.zeros(1, 3, 14, 14),
    }
    for message, pixel_values in wrong.items():
        with pytest.raises(ValueError, match=message):
            small_model(pixel_values)


def test_prompts_and_labels_of_the_wrong_form(small_model):
    size = small_model.config.image_size
    query = torch.zeros(2, 3, size, size)
    with pytest.raises(ValueError, match="encode_prompts"):
        small_model(query, torch.zeros(2, 3, size, size))
    with pytest.raises(ValueError, match="At least one normal image"):
        small_model.encode_prompts(torch.zeros(0, 3, size, size))
    with pytest.raises(ValueError, match="not both"):
        small_model(query, query[:, None], prompt_bank=small_model.encode_prompts(query))
    with pytest.raises(ValueError, match=r"labels of shape \(2,\)"):
        small_model(query, labels=torch.zeros(3))
    with pytest.raises(ValueError, match="mask_labels of shape"):
        small_model(query, mask_labels=torch.zeros(2, 5, 5))
    with pytest.raises(ValueError, match=r"mask_labels of 0 or 1 or -100, got 255"):
        small_model(query, mask_labels=torch.full((2, size, size), 255.0))
    with pytest.raises(ValueError, match=r"labels of 0 or 1, got 2"):
        small_model(query, labels=torch.tensor([0, 2]))


def test_processor_calls(detect, photos):
    processor = detect.processor
    with pytest.raises(ValueError, match="images, text or both"):
        processor()
    with pytest.raises(ValueError, match="one mask an image"):
        processor(photos["good"], masks=photos["good"][:1])
    with pytest.raises(ValueError, match="as many prompt images"):
        processor(photos["good"], prompt_images=[photos["normal"][:2], photos["normal"][:1]])
    with pytest.raises(ValueError, match="at least one image"):
        processor([])
    with pytest.raises(ValueError, match="belong to images"):
        processor(text="a", masks=photos["good"])


def test_pipeline_calls(detect, photos):
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\].*7"):
        detect(photos["good"][0], threshold=7)
    with pytest.raises(TypeError, match="normal_image'"):
        detect(photos["good"][0], normal_image=photos["normal"])
    with pytest.raises(ValueError, match="not both"):
        detect(photos["good"][0], normal_images=photos["normal"], prompt_bank="bank.safetensors")
    with pytest.raises(ValueError, match="shorten the object name"):
        detect(photos["good"][0], object_name="thing " * 90)


def test_banks(detect, small_model, make_model, photos, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"bank\.safetensors"):
        detect(photos["good"][0], prompt_bank=tmp_path / "bank.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.safetensors is not a prompt bank"):
        detect(photos["good"][0], prompt_bank=tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors is not a prompt bank"):
        PromptBank.from_pretrained(tmp_path / "other.safetensors")
    size = small_model.config.image_size
    for other, setting in (
        (make_model(seed=3), "weights is"),
        (make_model(feature_layers=[2, 4]), "feature_layers is"),
    ):
        with pytest.raises(ValueError, match=f"another model or preprocessing: {setting}"):
            small_model(torch.zeros(1, 3, size, size), prompt_bank=other.encode_prompts(torch.zeros(1, 3, size, size)))
    other = small_model.encode_prompts(torch.zeros(1, 3, size, size), {"resample": "0", "size": "9"})
    with pytest.raises(ValueError, match="resample is 0, this one's is 3"):
        detect(photos["good"][0], prompt_bank=other)


def test_static_prompts_not_encoded(make_model):
    made = make_model()
    model = AdaptCLIPModel(made.config, made.clip).eval()
    with pytest.raises(ValueError, match="call set_object_name"):
        model(torch.zeros(1, 3, model.config.image_size, model.config.image_size))


def test_incomplete_weights_are_never_filled_at_random(small_folder, tmp_path):
    folder = tmp_path / "adapters"
    shutil.copytree(small_folder, folder)
    (folder / "SHA256SUMS").unlink()  # as an older version wrote it
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in tensors.items() if not k.startswith("clip.")}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ValueError, match=r"not a complete AdaptCLIP model.*clip\."):
        AdaptCLIPModel.from_pretrained(folder)


def test_weights_that_do_not_belong_are_refused(small_folder, tmp_path, photos, capsys):
    folder = tmp_path / "model"
    shutil.copytree(small_folder, folder)
    (folder / "SHA256SUMS").unlink()  # as an older version wrote it
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"visual_adapter.gate": torch.ones(3)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"does not describe, such as visual_adapter\.gate"):
        AdaptCLIPModel.from_pretrained(folder)
    assert main(["detect", photos["good"][0], "--model", str(folder), "--output", str(tmp_path / "out")]) == 1
    assert "visual_adapter.gate" in capsys.readouterr().err
    # an adapter that is switched off leaves its weights unused
    assert AdaptCLIPModel.from_pretrained(folder, visual_adapter=False).visual_adapter is None


def test_truncated_weights_and_a_device_that_is_not_there(small_folder, clip_folder, tmp_path, photos, capsys):
    folder = tmp_path / "model"
    shutil.copytree(small_folder, folder)
    (folder / "SHA256SUMS").unlink()  # as an older version wrote it
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    call = ["detect", photos["good"][0], "--output", str(tmp_path / "out"), "--model"]
    assert main([*call, str(folder)]) == 1
    assert "truncated or damaged" in capsys.readouterr().err
    clip = shutil.copytree(clip_folder, tmp_path / "clip")
    (clip / "model.safetensors").write_bytes((clip / "model.safetensors").read_bytes()[:-1000])
    data = write_dataset(tmp_path / "data", 1, size=60, train=1, good=1, bad=1)
    assert main(["train", "--data", str(data), "--model", str(clip), "--output", str(tmp_path / "run")]) == 1
    assert "truncated or damaged" in capsys.readouterr().err
    for device in ("warp", *([] if torch.cuda.is_available() else ["cuda", "cuda:3"])):
        assert main([*call, str(small_folder), "--device", device]) == 1
        message = capsys.readouterr().err
        assert f"There is no device '{device}' here" in message and message.count("\n") == 1


@pytest.mark.parametrize("device_map", [{"clip": "disk"}, {"": "disk"}, {"clip": "cpu", "visual_adapter": 0}])
def test_a_model_is_not_spread_over_devices(small_folder, device_map):
    with pytest.raises(ValueError, match="would leave parts of the model elsewhere"):
        AdaptCLIPModel.from_pretrained(small_folder, device_map=device_map)


@pytest.mark.works("Dtypes and devices", "`device_map` with one device")
@pytest.mark.parametrize("device_map", ["cpu", {"": "cpu"}, "auto"])
def test_a_model_is_loaded_whole_where_it_is_asked_for(small_folder, photos, device_map):
    detect = pipeline("anomaly-detection", model=str(small_folder), device_map=device_map)
    assert len({each.device for each in detect.model.parameters()}) == 1
    assert 0 <= detect(photos["good"][0])["score"] <= 1


def test_a_clip_without_its_tokenizer(clip_folder, tmp_path, capsys):
    shutil.copytree(clip_folder, tmp_path / "clip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "clip" / name).unlink(missing_ok=True)
    with pytest.raises((ValueError, OSError), match="tokenizer"):
        AdaptCLIPModel.from_clip_pretrained(tmp_path / "clip", image_size=84)


def test_plain_clip_folder_is_refused(tokenizer, tmp_path):
    CLIPModel(small_clip_config(len(tokenizer))).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="from_clip_pretrained"):
        AdaptCLIPModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type is 'clip', not that of an AdaptCLIP model"):
        AdaptCLIPConfig.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "processor_config.json", "tokenizer.json"])
def test_missing_model_file(small_folder, photos, tmp_path, name, capsys):
    folder = tmp_path / "model"
    shutil.copytree(small_folder, folder)
    (folder / name).unlink()
    assert main(["detect", photos["good"][0], "--model", str(folder), "--output", str(tmp_path / "out")]) == 1
    assert f"it lacks {name}" in capsys.readouterr().err
    with pytest.raises((OSError, ValueError), match=re.escape(str(folder)) if "config.json" == name else name):
        pipeline("anomaly-detection", model=str(folder), device="cpu")


WRONG_CALLS = {
    "--threshold 7": (2, "between 0 and 1, got 7"),
    "--threshold high": (2, "between 0 and 1, got high"),
    "--batch-size 0": (2, "whole number from 1"),
    "--normal a.png --prompt-bank b.safetensors": (2, "not allowed with"),
    "--save-prompt-bank b.safetensors": (2, "--normal"),
    "--surprise": (2, "--surprise"),
    "--normal missing.png": (1, "missing.png"),
    "--normal EMPTY": (1, "holds no image file"),
    "--prompt-bank missing.safetensors": (1, "missing.safetensors"),
    "--model ./nowhere": (1, "No model folder at ./nowhere"),
}


@pytest.mark.parametrize("arguments", WRONG_CALLS)
def test_wrong_calls(small_folder, photos, tmp_path, capsys, arguments):
    status, message = WRONG_CALLS[arguments]
    words = [str(tmp_path) if word == "EMPTY" else word for word in arguments.split()]
    call = ["detect", photos["good"][0], "--model", str(small_folder), "--output", str(tmp_path / "out"), *words]
    try:
        found = main(call)
    except SystemExit as stop:
        found = stop.code
    assert found == status
    assert message in capsys.readouterr().err


def test_patterns_and_folders_without_images(tmp_path, capsys):
    assert main(["detect", str(tmp_path)]) == 1
    assert "holds no image file" in capsys.readouterr().err
    assert main(["detect", str(tmp_path / "*.png")]) == 1
    assert "Nothing matches" in capsys.readouterr().err


def released_checkpoint(case, path, change):
    adapters = torch.load(case["folder"] / "adapters.pth", weights_only=True)
    change(adapters)
    torch.save(adapters, path)
    return path


CHECKPOINTS = {
    "missing": (lambda a: a["pq_learner"].pop("local_adapter.1.3.bias"), "local_adapter.1.3.bias"),
    "missing learner": (lambda a: a.pop("visual_learner"), "visual_learner"),
    "superfluous": (lambda a: a["visual_learner"].update(extra=torch.zeros(1)), "visual_learner.extra"),
    "misshapen": (
        lambda a: a["visual_learner"].update({"global_adapter.fc.3.weight": torch.zeros(5, 5)}),
        r"global_adapter\.fc\.3\.weight has shape \(5, 5\)",
    ),
    "other width": (
        lambda a: a["visual_learner"].update({"local_adater.fc.0.weight": torch.zeros(8, 9)}),
        "belongs to another CLIP",
    ),
    "heads not shared": (
        lambda a: a["pq_learner"].update(
            {"global_adapter.1.6.weight": a["pq_learner"]["global_adapter.1.6.weight"] + 1}
        ),
        "should be shared",
    ),
    "other tokenizer": (lambda a: a["textual_learner"]["token_prefix_pos"].add_(1), "token_prefix_pos"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints(case, tmp_path, kind):
    change, message = CHECKPOINTS[kind]
    checkpoint = released_checkpoint(case, tmp_path / "adapters.pth", change)
    settings = {"image_size": case["settings"]["img"], "feature_layers": case["settings"]["features"]}
    with pytest.raises(ValueError, match=message):
        convert(checkpoint, case["folder"] / "clip", tmp_path / "out", **settings)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_unknown_layers_and_wrong_files(case, tmp_path, capsys):
    call = ["convert", "--checkpoint", str(case["folder"] / "adapters.pth"), "--output", str(tmp_path / "out")]
    clip = ["--clip", str(case["folder"] / "clip")]
    assert main([*call, *clip, "--feature-layers", "3", "99"]) == 1
    assert "must lie in 1.." in capsys.readouterr().err
    assert main([*call, *clip, "--image-size", str(case["settings"]["img"]), "--feature-layers", "1"]) == 1
    assert "are not in this model" in capsys.readouterr().err
    assert main([*call, "--clip", str(tmp_path / "clip.pt")]) == 1
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "bad.pt").write_text("hello")
    assert main([*call, "--clip", str(tmp_path / "bad.pt")]) == 1
    assert "bad.pt cannot be opened safely" in capsys.readouterr().err
    open_clip = ["--clip", str(case["folder"] / "openclip_state_dict.pt")]
    assert main([*call, *open_clip]) == 1
    assert "--tokenizer" in capsys.readouterr().err


def test_nothing_is_unpickled_unsafely(case, tmp_path):
    class Write:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"textual_learner": Write()}))
    torch.save({"textual_learner": Write()}, tmp_path / "trap2.pth")
    for name in ("trap.pth", "trap2.pth"):
        with pytest.raises(ValueError, match="cannot be opened safely"):
            convert(tmp_path / name, case["folder"] / "clip", tmp_path / "out")
    assert not (tmp_path / "ran").exists()


class Scripted(torch.nn.Module):
    """A module whose archive runs code when torch.jit loads it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        print("the archive's code ran")
        self.weight = state[0]
        self.training = state[1]

    def forward(self, x):
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_code_of_an_archive_is_not_run(tmp_path, capfd):
    torch.jit.script(Scripted()).save(tmp_path / "trap.pt")
    torch.jit.load(tmp_path / "trap.pt")
    assert "the archive's code ran" in capfd.readouterr().out
    with pytest.raises(ValueError, match=r"trap\.pt"):
        read_clip(tmp_path / "trap.pt")
    assert "ran" not in capfd.readouterr().out


def test_an_archive_that_names_what_it_should_not(tmp_path):
    class Write:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    with zipfile.ZipFile(tmp_path / "trap.pt", "w") as archive:
        archive.writestr("trap/constants.pkl", b"")
        archive.writestr("trap/data.pkl", pickle.dumps(Write()))
    with pytest.raises(ValueError, match=r"trap\.pt cannot be read .* it names builtins\.exec"):
        read_clip(tmp_path / "trap.pt")
    assert not (tmp_path / "ran").exists()
