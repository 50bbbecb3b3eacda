"""A model folder that somebody gave: its JSON chooses from lists of ours, and what is wrong is said in one line."""

import json
import random
import resource
import shutil
from pathlib import Path

import pytest
from transformers import AutoModel

from adaptclip_hf import AdaptCLIPConfig, AdaptCLIPModel, AdaptCLIPProcessor, AnomalyDetector

WRONG = [
    None,
    "x",
    "",
    -1,
    0,
    10**9,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    -0.5,
    True,
    [],
    [1],
    {},
    {"a": 1},
    [[1]],
]
CODE_ON_THE_HUB = ["kernels-community/flash-attn", "org/repo:fn", "flash_attention_2", {"vision_config": "org/repo"}]


@pytest.fixture
def given(small_folder, tmp_path) -> Path:
    """A model folder, beside a module that notices when it runs."""
    folder = Path(shutil.copytree(small_folder, tmp_path / "given"))
    (folder / "payload.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass X: pass\n")
    return folder


def change(file: Path, *path: str, value):
    """Sets one value of a JSON file, by the names that lead to it."""
    content = json.loads(file.read_text())
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    file.write_text(json.dumps(content))


def opened(folder: Path) -> AnomalyDetector:
    return AnomalyDetector.from_pretrained(folder, device="cpu")


def places(content: dict, path: tuple = ()):
    """The names that lead to each value of a config."""
    for name, value in content.items():
        yield (*path, name)
        if name in ("clip_config", "text_config", "vision_config"):
            yield from places(value, (*path, name))


def test_each_value_of_a_config_is_read_or_refused_by_its_name(given):
    """A wrong value for each field: within memory, and never a traceback."""
    file, choose = given / "config.json", random.Random(0)
    before, memory = file.read_text(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in places(json.loads(before)):
        for value in choose.sample(WRONG, 1):
            change(file, *path, value=value)
            try:
                AdaptCLIPConfig.from_pretrained(given)
            except ValueError as error:
                assert str(error).startswith(str(file)) and "\n" not in str(error), error
            file.write_text(before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100_000  # kB


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("temperature",), float("nan"), "temperature"),
        (("temperature",), 0.0, "temperature must be positive"),
        (("image_size",), 14 * 10**8, "image_size"),
        (("prompt_token_ids",), [0, -5, 1], "prompt_token_ids"),
        (("dtype",), "load", "dtype is 'load'"),
        (("model_type",), "clip_text_model", "model_type is"),
        (("clip_config",), [], "clip_config"),
        (("clip_config", "projection_dim"), 64, "projection_dim is 64, and the weights beside it have 32"),
        (("clip_config", "vision_config", "hidden_size"), 10**9, r"hidden_size must be a whole number in 1\.\."),
        (
            ("clip_config", "vision_config", "hidden_size"),
            4096,
            "hidden_size is 4096, and the weights beside it have 64",
        ),
        (("clip_config", "vision_config", "patch_size"), 0, "patch_size must be a whole number"),
        (("clip_config", "vision_config", "num_attention_heads"), 0, "num_attention_heads must be a whole number"),
        (("clip_config", "vision_config", "num_hidden_layers"), 0, "num_hidden_layers must be a whole number"),
        (("clip_config", "vision_config", "num_hidden_layers"), 5, "num_hidden_layers is 5, and the weights"),
        (("clip_config", "vision_config", "hidden_act"), "x", "hidden_act is 'x'"),
        (("clip_config", "text_config", "vocab_size"), 4_000_000, "vocab_size is 4000000, and the weights"),
    ],
)
def test_what_does_not_fit_is_said_before_it_is_built(given, path, value, said):
    change(given / "config.json", *path, value=value)
    with pytest.raises(ValueError, match=rf"config\.json.*{said}"):
        opened(given)


@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize(
    "part", [(), ("clip_config",), ("clip_config", "vision_config"), ("clip_config", "text_config")]
)
def test_a_config_chooses_no_attention_of_the_hub(given, name, part):
    for value in CODE_ON_THE_HUB:
        change(given / "config.json", *part, name, value=value)
        with pytest.raises(
            ValueError, match=rf"config\.json.*{name} is .*a file may choose eager, sdpa, flex_attention"
        ):
            AdaptCLIPConfig.from_pretrained(given)
    with pytest.raises(ValueError, match="a file may choose"):
        AutoModel.from_pretrained(given)
    change(given / "config.json", *part, name, value="eager")
    opened(given)


def test_a_caller_chooses_the_attention(given):
    model = AdaptCLIPModel.from_pretrained(given, attn_implementation="eager")
    assert model.clip.vision_model.config._attn_implementation == "eager"


def test_a_plain_clip_chooses_no_attention_of_the_hub_either(clip_folder, tmp_path):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    opened(folder)
    before = (folder / "config.json").read_text()
    for path, value, said in (
        (("_attn_implementation",), "org/repo", "a file may choose"),
        (("vision_config", "hidden_size"), 4096, "hidden_size is 4096, and the weights"),
        (("text_config", "num_hidden_layers"), 10**9, "num_hidden_layers must be"),
    ):
        change(folder / "config.json", *path, value=value)
        with pytest.raises(ValueError, match=rf"config\.json.*{said}"):
            opened(folder)
        (folder / "config.json").write_text(before)


def test_what_a_config_does_not_know_is_left_out(given):
    """What transformers would act on: other weights, quantisation, patches, methods of the config itself."""
    unknown = {
        "quantization_config": {"quant_method": "gptq", "bits": 4},
        "transformers_weights": "../elsewhere.safetensors",
        "fusion_config": {"patch": True},
        "to_dict": 1,
        "_auto_class": "X",
    }
    for name, value in unknown.items():
        change(given / "config.json", name, value=value)
        change(given / "config.json", "clip_config", name, value=value)
    config = opened(given).model.config
    assert not unknown.keys() & vars(config).keys() and not unknown.keys() & vars(config.clip_config).keys()


@pytest.mark.parametrize("content", [b"[]", b'"x"', b"null", b"[" * 100_000, b'{"a":' * 5000, b"", b"\xff\xfe", b"{"])
@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer.json"])
def test_a_file_that_is_no_json(given, name, content):
    (given / name).write_bytes(content)
    with pytest.raises((ValueError, OSError), match=str(given)) as raised:
        opened(given)
    assert "\n" not in str(raised.value).strip()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("size", {"height": 10**9, "width": 10**9}),
        ("size", {"height": 84, "width": 98}),
        ("size", None),
        ("image_mean", [0.5, 0.5]),
        ("image_mean", [0.5, 0.5, float("nan")]),
        ("image_std", [0.5, 0.5, 0]),
        ("rescale_factor", "x"),
        ("resample", 17),
        ("do_resize", "yes"),
        ("do_center_crop", True),
    ],
)
def test_settings_of_a_processor_are_checked(given, setting, value):
    change(given / "processor_config.json", "image_processor", setting, value=value)
    with pytest.raises(ValueError, match=rf"given/processor_config\.json: {setting} must be "):
        AdaptCLIPProcessor.from_pretrained(given)


def test_no_class_or_code_that_a_processor_names_is_used(given):
    expected = AdaptCLIPProcessor.from_pretrained(given)
    code = {
        "AutoProcessor": "payload.X",
        "AutoTokenizer": ["payload.X", "payload.X"],
        "AutoImageProcessor": "payload.X",
    }
    for name in ("processor_config.json", "tokenizer_config.json"):
        change(given / name, "auto_map", value=code)
    change(given / "processor_config.json", "image_processor", "auto_map", value=code)
    change(given / "processor_config.json", "image_processor", "image_processor_type", value="ViTImageProcessor")
    change(given / "processor_config.json", "image_processor", "preprocess", value=1)
    audio = {"audio_tokenizer_class": "AutoModel", "audio_tokenizer_name_or_path": str(given)}
    change(given / "processor_config.json", "audio_tokenizer", value=audio)
    change(given / "tokenizer_config.json", "tokenizer_class", value="SomeTokenizer")
    processor = opened(given).processor
    assert type(processor) is AdaptCLIPProcessor and not (given.parent / "ran").exists()
    assert processor.image_processor.fingerprint() == expected.image_processor.fingerprint()
    assert processor.tokenizer("a bottle")["input_ids"] == expected.tokenizer("a bottle")["input_ids"]


def test_damaged_weights_files(given):
    (given / "SHA256SUMS").unlink()
    file = given / "model.safetensors"
    whole = file.read_bytes()
    for content in (
        b"",
        whole[:5],
        whole[: len(whole) // 2],
        b"\xff" * 8 + whole[8:],
        (8).to_bytes(8, "little") + whole[8:],
    ):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights in .*model\.safetensors cannot be read"):
            opened(given)
    file.unlink()
    (given / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n")  # a pickle is not looked at
    with pytest.raises(OSError, match=r"lacks model\.safetensors|No weights at"):
        AdaptCLIPModel.from_pretrained(given)
