"""The recipe of adaptclip-tiny in miniature: from nothing to a folder that scores, in pieces, and its pictures."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch._dynamo
from PIL import Image
from safetensors.torch import load_file
from small_clip import small_clip_config
from transformers import CLIPModel

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor
from adaptclip_hf.modeling.vision_encoder import encode_image

RECIPE = Path(__file__).resolve().parents[2] / "examples" / "adaptclip_tiny"
pytestmark = pytest.mark.slow


@pytest.fixture
def recipe(monkeypatch):
    """The recipe's modules importable; compiling takes longer than a miniature."""
    monkeypatch.syspath_prepend(RECIPE)
    with torch._dynamo.config.patch(disable=True):
        yield


@pytest.fixture
def small_steps(recipe, monkeypatch):
    """Fewer and smaller crops a step: a processor without bfloat16 takes minutes for one of the recipe's own."""
    import clip_training
    import distillation

    monkeypatch.setattr(clip_training, "TOKENS_PER_STEP", 512)
    monkeypatch.setattr(clip_training, "SMALL_SIDES", [112])
    monkeypatch.setattr(clip_training, "LARGE_SIDES", [126])
    monkeypatch.setattr(distillation, "TOKENS_PER_STEP", 800)
    monkeypatch.setattr(distillation, "RIDGE_BATCHES", 2)


@pytest.mark.slow(45)
def test_the_recipe_makes_a_model_from_nothing_in_pieces(tmp_path, small_steps, monkeypatch):
    from train import main

    sizes = {"categories": 8, "first-steps": 2, "canvas-categories": 4, "small-steps": 2, "clip-steps": 2}
    sizes |= {"base-categories": 3, "held-out-categories": 2, "epochs": 1}
    arguments = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    command = ["train.py", "--work", str(tmp_path / "work"), "--output", str(tmp_path / "model"), "--no-pictures"]
    # a call makes at least a step: one of the first CLIP, its last and one of the second, its last and one of the third
    for unfinished in ("the first CLIP is not finished", "the CLIP is not finished", "the CLIP is not finished"):
        monkeypatch.setattr(sys, "argv", [*command, *arguments, "--minutes", "0"])
        with pytest.raises(SystemExit, match=unfinished):
            main()
    monkeypatch.setattr(sys, "argv", [*command, *arguments])
    main()
    model = AdaptCLIPModel.from_pretrained(tmp_path / "model")
    processor = AdaptCLIPProcessor.from_pretrained(tmp_path / "model")
    image = next((tmp_path / "work" / "base").glob("*/test/*/*.png"))
    assert 0 <= model(**processor(image)).anomaly_scores.item() <= 1
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    assert {tensor.element_size() for name, tensor in tensors.items() if name.startswith("clip.")} == {2}


def test_clips_learned_in_pieces_are_the_same_as_in_one(tmp_path, small_steps):
    import clip_training
    import distillation
    from canvases import make_canvases
    from rendering import render

    straight, pieces = tmp_path / "straight", tmp_path / "pieces"
    straight.mkdir()
    pieces.mkdir()
    data, canvases = render(tmp_path, 8), make_canvases(tmp_path, 2, [])
    assert clip_training.train_clip(straight, data, 2, float("inf"))
    assert [clip_training.train_clip(pieces, data, 2, 0) for _ in range(2)] == [False, True]
    for tower in (distillation.SMALL, distillation.WIDE):
        assert distillation.distill(straight, canvases, 2, "both", float("inf"), tower)
        in_pieces = [distillation.distill(pieces, canvases, 2, "both", 0, tower) for _ in range(2)]
        assert in_pieces == [False, True]
    for stage in ("procedural-clip", "small-clip", "clip"):
        one, two = (load_file(part / stage / "model.safetensors") for part in (straight, pieces))
        assert all(one[name].equal(two[name]) for name in one)


def test_pictures_of_any_kind_are_cropped_or_left_out(tmp_path, recipe):
    from pictures import crop_picture

    noise = np.random.default_rng(0).integers(0, 256, (900, 700, 4), np.uint8)
    for name, picture in {
        "rgb.png": Image.fromarray(noise[..., :3]),
        "transparent.png": Image.fromarray(noise),
        "palette.png": Image.fromarray(noise[..., :3]).convert("P"),
        "grey.png": Image.fromarray(noise[..., 0]),
        "flat.png": Image.new("RGB", (600, 600), "grey"),
        "tiny.png": Image.fromarray(noise[:64, :64, :3]),
        "ribbon.png": Image.fromarray(noise[:, :40, :3]),
    }.items():
        picture.save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes((tmp_path / "rgb.png").read_bytes()[:2000])
    found = {path.stem: crop_picture(path, 1, 96) for path in sorted(tmp_path.glob("*.png"))}
    assert {name for name, crops in found.items() if crops} == {"grey", "palette", "rgb", "transparent"}
    assert all(crop.shape == (96, 96, 3) and crop.dtype == np.uint8 for crops in found.values() for crop in crops)
    again = crop_picture(tmp_path / "rgb.png", 1, 96)
    assert all(np.array_equal(one, two) for one, two in zip(found["rgb"], again, strict=True))


def test_a_grown_clip_computes_what_the_smaller_one_does(recipe):
    from growing import grow

    small = CLIPModel._from_config(small_clip_config(100, layers=3), attn_implementation="eager").eval()
    wide = grow(small).eval()
    assert wide.config.vision_config.hidden_size == 2 * small.config.vision_config.hidden_size
    image = torch.randn(2, 3, 28, 28)
    ours, theirs = (encode_image(each, image, [1, 2, 3], 2) for each in (wide, small))
    torch.testing.assert_close(ours.image_embeds, theirs.image_embeds, rtol=1e-3, atol=1e-4)
    for one, other in zip(ours.patch_embeds, theirs.patch_embeds, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    first = wide.vision_model.encoder.layers[0].mlp.fc1.weight
    left, right = first.chunk(2, dim=1)
    assert not torch.allclose(left, right), "the halves would learn the same"
