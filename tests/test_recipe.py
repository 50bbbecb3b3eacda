"""The recipe of adaptclip-tiny in miniature: from nothing to a folder that scores, and resumption."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from adaptclip_hf import AdaptCLIPModel, AdaptCLIPProcessor

RECIPE = Path(__file__).resolve().parents[1] / "examples" / "adaptclip_tiny"
pytestmark = pytest.mark.slow


def test_the_recipe_makes_a_model_from_nothing(tmp_path):
    arguments = [
        "--categories",
        "8",
        "--clip-steps",
        "2",
        "--base-categories",
        "3",
        "--epochs",
        "1",
        "--image-size",
        "112",
    ]
    command = [sys.executable, RECIPE / "train.py", "--work", tmp_path / "work", "--output", tmp_path / "model"]
    subprocess.run([*command, *arguments], check=True)
    model = AdaptCLIPModel.from_pretrained(tmp_path / "model")
    processor = AdaptCLIPProcessor.from_pretrained(tmp_path / "model")
    image = next((tmp_path / "work" / "base").glob("*/test/*/*.png"))
    assert 0 <= model(**processor(image)).anomaly_scores.item() <= 1
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    assert {tensor.element_size() for name, tensor in tensors.items() if name.startswith("clip.")} == {2}


def test_an_interrupted_clip_goes_on_as_if_it_had_not_stopped(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(RECIPE)
    import clip_training
    from rendering import render

    data, whole = render(tmp_path, 8), clip_training.prefetch_batches
    monkeypatch.setattr(clip_training, "CHECKPOINT_EVERY", 2)
    for part in ("straight", "stopped"):
        (tmp_path / part).mkdir()
    clip_training.train_clip(tmp_path / "straight", data, 4)

    def cut_short(data, first, steps):
        for step, batch in whole(data, first, steps):
            if step == 3:
                raise KeyboardInterrupt
            yield step, batch

    monkeypatch.setattr(clip_training, "prefetch_batches", cut_short)
    with pytest.raises(KeyboardInterrupt):
        clip_training.train_clip(tmp_path / "stopped", data, 4)
    monkeypatch.setattr(clip_training, "prefetch_batches", whole)
    clip_training.train_clip(tmp_path / "stopped", data, 4)
    one, two = (load_file(tmp_path / part / "clip" / "model.safetensors") for part in ("straight", "stopped"))
    assert all(one[name].equal(two[name]) for name in one)
