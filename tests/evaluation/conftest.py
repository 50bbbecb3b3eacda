import pytest
import torch


@pytest.fixture(autouse=True)
def two_threads(seeded):
    """An evaluation has a worker for each thread, and several must give the figures of one."""
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def empty_curves(request, monkeypatch):
    """Drawing a category's curves takes seconds: they are drawn in tests with the marker `curves` alone."""

    def touch(record, tally, file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    if "curves" not in request.keywords:
        monkeypatch.setattr("adaptclip_hf.evaluation.evaluate.draw_curves", touch)
