"""The training scripts in examples/, on the embedded model."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adaptclip_hf import DEFAULT_MODEL
from adaptclip_hf.model_files import resolve_model
from adaptclip_hf.synthetic import write_dataset

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("script", ["train_with_trainer.py", "train_with_accelerate.py"])
def test_training_scripts(script, tmp_path, monkeypatch):
    assert len((EXAMPLES / script).read_text().splitlines()) < 80
    write_dataset(tmp_path / "data", 1, size=64, train=1, good=1, bad=1)
    command = [script, "--data", tmp_path / "data", "--output", tmp_path / "out", "--epochs", 1, "--batch-size", 2]
    monkeypatch.setattr(sys, "argv", [str(each) for each in command])
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    trained = load_file(Path(resolve_model(tmp_path / "out")) / "model.safetensors")
    before = load_file(Path(DEFAULT_MODEL) / "model.safetensors")
    same = {name for name in before if (trained[name].float() == before[name].float()).all()}
    changed = trained.keys() - same
    assert "learned_text_embeds" in changed  # of the prompts that were learned
    encoded_again = {"static_text_embeds", "learned_text_embeds"}  # another processor rounds the former in another way
    torch.testing.assert_close(trained["static_text_embeds"], before["static_text_embeds"].float(), atol=1e-3, rtol=0)
    assert all("adapter" in name for name in changed - encoded_again) and len(changed) > 2
