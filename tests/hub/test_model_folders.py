"""The three kinds of model folder: complete, adapters alone, with their code. All offline."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, pipeline

from adaptclip_hf import AdaptCLIPConfig, AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.cli import main
from adaptclip_hf.hub.model_folders import code_files, folder_kind, save_model_folder
from adaptclip_hf.training.train import build_model


@pytest.fixture(scope="module")
def adapters_folder(small_folder, clip_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    model = AdaptCLIPModel.from_pretrained(small_folder)
    save_model_folder(model, AdaptCLIPProcessor.from_pretrained(small_folder), folder, "adapters", str(clip_folder))
    return folder


def score(folder, photo, **options):
    return pipeline("anomaly-detection", model=str(folder), device="cpu", **options)(photo)["score"]


def test_adapters_are_put_to_the_clip_that_they_name(small_folder, adapters_folder, photos, tmp_path):
    assert not (adapters_folder / "model.safetensors").exists()
    names = load_file(adapters_folder / "adapters.safetensors")
    assert names and not any(name.startswith("clip.") for name in names)
    assert score(adapters_folder, photos["bad"][0]) == score(small_folder, photos["bad"][0])
    loaded = AdaptCLIPModel.from_pretrained(adapters_folder, dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16 and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.clip.parameters())
    # in memory it is a complete model again, and saved so
    AutoModel.from_pretrained(adapters_folder).save_pretrained(tmp_path)
    shutil.copy(small_folder / "processor_config.json", tmp_path)
    states = [AdaptCLIPModel.from_pretrained(folder).state_dict() for folder in (tmp_path, small_folder)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.works("Loading", "the arguments of `from_pretrained` for a folder of adapters alone")
def test_arguments_of_adapters_alone_are_heard(adapters_folder, small_folder):
    assert AdaptCLIPModel.from_pretrained(adapters_folder, dtype="bfloat16").dtype == torch.bfloat16
    config = AdaptCLIPConfig.from_pretrained(adapters_folder)
    loaded = AdaptCLIPModel.from_pretrained(adapters_folder, config=config, temperature=0.5, score_fusion="mean")
    assert (loaded.config.temperature, loaded.config.score_fusion) == (0.5, "mean") and config.temperature == 0.07
    with pytest.raises(TypeError, match="takes no temprature"):
        AdaptCLIPModel.from_pretrained(adapters_folder, temprature=0.5)
    named = AdaptCLIPModel.from_pretrained(adapters_folder, object_name="leather").encode_text()
    assert torch.equal(
        named.static, AdaptCLIPModel.from_pretrained(small_folder, object_name="leather").encode_text().static
    )


def test_training_from_adapters_or_code_ends_with_a_plain_complete_model(adapters_folder, small_folder, tmp_path):
    parts = AdaptCLIPModel.from_pretrained(small_folder), AdaptCLIPProcessor.from_pretrained(small_folder)
    save_model_folder(*parts, tmp_path / "code", "remote-code")
    for source in (adapters_folder, tmp_path / "code"):
        for keep_adapters in (True, False):
            model, processor = build_model(str(source), {}, keep_adapters)
            folder = tmp_path / f"{source.name}_{keep_adapters}"
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            assert folder_kind(folder) == "complete" and (folder / "model.safetensors").is_file()
            assert AdaptCLIPModel.from_pretrained(folder).fingerprint() == parts[0].fingerprint()


def test_pushing_adapters_needs_a_clip_that_others_have(small_folder, clip_folder, capsys):
    call = ["push", str(small_folder), "me/x", "--flavour", "adapters", "--dry-run"]
    assert main([*call, "--clip", str(clip_folder)]) == 1
    assert "is no Hub id" in capsys.readouterr().err
    assert main([*call, "--clip", "org/clip", "--clip-revision", "a1b2"]) == 0
    assert "adapters.safetensors" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([*call[:3], "--clip", "org/clip"])


def test_a_missing_clip_is_an_error_and_never_a_random_one(adapters_folder, tmp_path, capsys, photos):
    folder = shutil.copytree(adapters_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "clip_name": "openai/not-here", "clip_revision": "a1b2"}))
    with pytest.raises(OSError, match=r"adapters alone.*openai/not-here \(revision a1b2\), is not available"):
        AdaptCLIPModel.from_pretrained(folder)
    assert main(["detect", photos["bad"][0], "--model", str(folder), "--output", str(tmp_path / "out")]) == 1
    assert "openai/not-here" in capsys.readouterr().err
    (folder / "config.json").write_text(json.dumps({**config, "clip_name": None}))
    with pytest.raises(Exception, match="adapters_only needs clip_name"):
        AdaptCLIPModel.from_pretrained(folder)


def test_another_clip_is_refused(adapters_folder, clip_folder, tmp_path):
    other = shutil.copytree(clip_folder, tmp_path / "clip")
    tensors = load_file(other / "model.safetensors")
    tensors["text_projection.weight"] += 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    folder = shutil.copytree(adapters_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "clip_name": str(other)}))
    with pytest.raises(ValueError, match="belongs to another CLIP"):
        AdaptCLIPModel.from_pretrained(folder)


def test_adapters_without_a_known_clip_or_an_unknown_flavour(small_folder, tmp_path):
    parts = AdaptCLIPModel.from_pretrained(small_folder), AdaptCLIPProcessor.from_pretrained(small_folder)
    with pytest.raises(ValueError, match=r"name its Hub id \(clip=, --clip\)"):
        save_model_folder(*parts, tmp_path, "adapters")
    with pytest.raises(ValueError, match="There is no flavour 'half'; there are complete, adapters, remote-code"):
        save_model_folder(*parts, tmp_path, "half")


ALONE = """
import sys
from importlib.util import find_spec
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [place for place in sys.path if place != sys.argv[3] and place]
assert find_spec("adaptclip_hf") is None
from transformers import AutoModel, AutoProcessor, pipeline
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
output = model(processor(sys.argv[2])["pixel_values"])
print("model", output.anomaly_scores.item().hex())
model.save_pretrained("model-alone")
assert "custom_pipelines" not in open("model-alone/config.json").read() and model.config.custom_pipelines
detect = pipeline("anomaly-detection", model=sys.argv[1], trust_remote_code=True, device="cpu")
result = detect(sys.argv[2])
print("zero", result["score"].hex(), result["heatmap"].size)
print("few", detect(sys.argv[2], normal_images=[sys.argv[2]])["score"].hex())
detect.save_pretrained("again")
again = pipeline("anomaly-detection", model="again", trust_remote_code=True, device="cpu")
assert again(sys.argv[2])["score"] == result["score"]
assert "adaptclip_hf" not in sys.modules
"""


@pytest.mark.works("Loading", "`trust_remote_code=True` where the package is not installed")
@pytest.mark.slow
def test_remote_code_scores_the_same_where_the_package_is_not(small_folder, photos, tmp_path):
    folder, photo = tmp_path / "model", photos["bad"][0]
    parts = AdaptCLIPModel.from_pretrained(small_folder), AdaptCLIPProcessor.from_pretrained(small_folder)
    save_model_folder(*parts, folder, "remote-code")
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), photo, root],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    detect = pipeline("anomaly-detection", model=str(small_folder), device="cpu")
    zero, few = detect(photo)["score"].hex(), detect(photo, normal_images=[photo])["score"].hex()
    assert f"model {zero}" in done.stdout and f"zero {zero} (170, 150)" in done.stdout and f"few {few}" in done.stdout
    assert {"modeling_adaptclip.py", "processing_adaptclip.py", "pipeline.py", "heatmap.py"} <= set(code_files(folder))
    assert set(code_files(folder)) == {file.name for file in folder.glob("*.py")}
    # users of the package need no remote code, and what they save is the plain flavour again
    save_model_folder(AdaptCLIPModel.from_pretrained(folder), parts[1], tmp_path / "plain")
    assert "auto_map" not in (tmp_path / "plain" / "config.json").read_text()
    assert score(tmp_path / "plain", photo).hex() == zero
    assert main(["detect", photo, "--model", str(folder), "--output", str(tmp_path / "out"), "--quiet"]) == 0
