"""Benchmarks that no machine at hand can run in full: a small walk through them."""

import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import gpu

    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, words)])
        return gpu.main()

    return call


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(gpu, capsys):
    assert gpu() == 1
    told = capsys.readouterr().err
    assert "There is no device 'cuda' here" in told and "--device cpu --small" in told and told.count("\n") == 1


def test_speed_and_training_in_small(gpu, capsys, tmp_path):
    assert gpu("--device", "cpu", "--small", "--reference", tmp_path) == 0
    told = capsys.readouterr().out
    assert "| small | torch | 2 | 4 |" in told and "| small | compiled, photos | 2 | - |" in told
    assert "few-shot over zero-shot" in told and f"{tmp_path}: there are no cases" in told
    assert "tensors are equal" in told, told


def test_the_reference_cases_in_small(gpu, capsys, shared):
    assert gpu("--device", "cpu", "--small", "--only", "reference", "--reference", shared / "reference") == 0
    told = capsys.readouterr().out
    assert told.count("as expected") == 6 and told.count("| bfloat16 |") == 6 and "above" not in told, told
