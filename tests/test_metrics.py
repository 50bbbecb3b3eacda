"""The metrics against the reference's figures and by hand."""

import json

import pytest
import torch
from safetensors.torch import load_file

from adaptclip_hf.evaluation import ImageMetrics, PixelMetrics

NAMES = {"AUROC": "auroc", "AP": "ap", "F1max": "f1max"}


@pytest.mark.parametrize("case", ["continuous", "with_ties"])
def test_reference_figures(shared, case):
    folder = shared / "reference" / "metrics"
    inputs, expected = load_file(folder / f"{case}.safetensors"), json.loads((folder / f"{case}.json").read_text())
    images, pixels = ImageMetrics(), PixelMetrics()
    for part in range(3):
        chosen = slice(part * 8, part * 8 + 8)
        one, two = ImageMetrics(), PixelMetrics()
        one.update(inputs["scores"][chosen], inputs["labels"][chosen])
        two.update(inputs["anomaly_maps"][chosen], inputs["masks"][chosen])
        images.merge(one)
        pixels.merge(two)
    figures = images.compute() | pixels.compute()
    for theirs, ours in NAMES.items():
        assert abs(figures[f"image_{ours}"] - expected[f"I-{theirs}"]) < 1e-5
        # a histogram: the maps' last bits are dropped
        assert abs(figures[f"pixel_{ours}"] - expected[f"P-{theirs}"]) < 5e-4


def test_by_hand():
    metrics = ImageMetrics()
    assert metrics.compute() == {}
    metrics.update(torch.tensor([0.1, 0.4]), torch.tensor([0, 0]))
    assert metrics.compute() == {}
    metrics.update([0.4, 0.8], [1, 1])
    figures = metrics.compute()
    assert figures["image_auroc"] == pytest.approx(3.5 / 4)  # four pairs, one of them a tie
    assert figures["image_f1max"] == pytest.approx(0.8)
    maps = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    pixels = PixelMetrics()
    pixels.update(maps, (maps > 0.3).int())
    # the last step to full recall ends at the share of anomalous pixels, as in the reference: (1 + (1 + 0.5) / 2) / 2
    assert pixels.compute() == {"pixel_auroc": 1.0, "pixel_ap": 0.875, "pixel_f1max": 1.0}
