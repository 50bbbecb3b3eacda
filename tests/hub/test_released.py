"""The authors' released checkpoints: which one, fetched, converted once, found again."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.cli import main
from adaptclip_hf.conversion import adapter_names
from adaptclip_hf.hub.cards import released_card
from adaptclip_hf.hub.released import choose, released_checkpoint

SETTINGS = {"image_size": 84}


@pytest.fixture
def local(released_folder, clip_folder, tmp_path):
    return {"clip": clip_folder, "cache_folder": tmp_path / "cache", **SETTINGS}


def test_converted_once_and_found_again(released_folder, small_model, local, monkeypatch):
    model = AdaptCLIPModel.from_released(released_folder, trained_on="visa", **local)
    images = torch.rand(2, 3, 84, 84)
    assert torch.equal(model(images).anomaly_scores, small_model(images).anomaly_scores)
    assert AdaptCLIPProcessor.from_pretrained(model.name_or_path).image_processor.size["height"] == 84
    monkeypatch.setattr("adaptclip_hf.hub.released.convert", lambda *arguments, **more: pytest.fail("converted again"))
    again = AdaptCLIPModel.from_released(released_folder / "weights" / "trained_on_visa.pth", **local)
    assert again.name_or_path == model.name_or_path


def test_what_was_found_is_said_when_the_choice_is_not_clear(released_folder, local, tmp_path):
    with pytest.raises(ValueError, match=r"(?s)several.*without trained_on.*trained_on_visa") as caught:
        AdaptCLIPModel.from_released(released_folder, **local)
    assert "weights/trained_on_mvtec.pth" in str(caught.value) and "notes.txt" not in str(caught.value)
    with pytest.raises(ValueError, match="none of its checkpoints fit for trained_on='btad'"):
        AdaptCLIPModel.from_released(released_folder, trained_on="btad", **local)
    with pytest.raises(FileNotFoundError, match=r"holds no a.pth. It holds:\n  weights/"):
        released_checkpoint(released_folder, checkpoint="a.pth")
    with pytest.raises(FileNotFoundError, match=r"holds no checkpoint .*It holds:\n  README.md"):
        choose(["README.md"], "org/empty", None, None)
    for path in ("/no/such/folder", "adapters.pth", "weights/adapters.pth"):
        with pytest.raises(FileNotFoundError, match=f"No checkpoint {path}: there is no such file"):
            released_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="not in the cache and the Hub does not answer"):
        AdaptCLIPModel.from_released("nobody/nothing", **local)


def test_the_command_converts_it_with_its_card(released_folder, clip_folder, tmp_path, capsys):
    output = tmp_path / "adaptclip-mvtec"
    call = ["convert", "--checkpoint", str(released_folder), "--clip", str(clip_folder), "--image-size", "84"]
    assert main([*call, "--trained-on", "mvtec", "--output", str(output)]) == 0
    model = AdaptCLIPModel.from_pretrained(output)
    card = (output / "README.md").read_text()
    assert card == released_card("MVTec", "adaptclip-mvtec", model.config)
    assert "the paper's figures, not measured" in card and "| VisA, 4-shot | 93.1 ± 0.2 |" in card
    assert main([*call, "--output", str(tmp_path / "none")]) == 1
    assert "name one with checkpoint=" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_every_tensor_of_the_stand_in_is_the_released_layout(released_folder, small_model):
    checkpoint = torch.load(released_folder / "weights" / "trained_on_visa.pth", weights_only=True)
    assert set(checkpoint) == {"textual_learner", "visual_learner", "pq_learner"}
    names = {name for copies in adapter_names(small_model).values() for name in copies}
    assert names == {f"{learner}.{name}" for learner, tensors in checkpoint.items() for name in tensors}


def test_two_processes_that_convert_at_once(released_folder, clip_folder, local, monkeypatch):
    """The other one is done a moment before: its folder stands, and serves."""
    from adaptclip_hf.hub import released

    convert = released.convert

    def overtaken(file, clip, output, *arguments, **config):
        convert(file, clip, output, *arguments, **config)
        parts = released.cache_key(file, clip, None, config)
        shutil.copytree(output, local["cache_folder"] / parts)
        return None

    monkeypatch.setattr(released, "convert", overtaken)
    model = AdaptCLIPModel.from_released(released_folder, trained_on="visa", **local)
    assert model.name_or_path.startswith(str(local["cache_folder"]))
    assert len(list(local["cache_folder"].iterdir())) == 1


def test_a_clip_whose_contents_changed_is_converted_anew(released_folder, clip_folder, local, tmp_path):
    clip = shutil.copytree(clip_folder, tmp_path / "clip")
    first = AdaptCLIPModel.from_released(released_folder, trained_on="visa", **{**local, "clip": clip})
    tensors = load_file(clip / "model.safetensors")
    tensors["visual_projection.weight"] *= 2
    save_file(tensors, clip / "model.safetensors", {"format": "pt"})
    second = AdaptCLIPModel.from_released(released_folder, trained_on="visa", **{**local, "clip": clip})
    assert second.name_or_path != first.name_or_path and second.clip_digest() != first.clip_digest()


def test_a_fault_of_ours_is_no_missing_network(monkeypatch):
    def fault(*arguments, **more):
        raise TypeError("a fault")

    monkeypatch.setattr("adaptclip_hf.hub.released.HfApi.model_info", fault)
    with pytest.raises(TypeError, match="a fault"):
        released_checkpoint("org/released", "visa")


def test_a_pushed_models_processor_is_of_the_models_own_commit(small_model, monkeypatch):
    from adaptclip_hf.hub import staging

    seen = []

    def from_pretrained(name, **options):
        seen.append((name, options))
        raise OSError("far enough")

    monkeypatch.setattr(staging.AdaptCLIPProcessor, "from_pretrained", from_pretrained)
    monkeypatch.setattr(small_model.config, "_commit_hash", "abc123", raising=False)
    monkeypatch.setattr(small_model.config, "name_or_path", "me/private", raising=False)
    monkeypatch.setattr(small_model, "name_or_path", "me/private", raising=False)
    with pytest.raises(OSError, match="far enough"):
        small_model.push_to_hub("me/copy", token="hf_x")
    assert seen == [("me/private", {"revision": "abc123", "token": "hf_x"})]
