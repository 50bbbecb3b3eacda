"""The metrics against the reference's figures, scikit-learn, and by hand."""

import json

import evaluate
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import auc, average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from adaptclip_hf.evaluation import IMAGE_SCORES, ImageMetrics, PixelMetrics
from adaptclip_hf.evaluation.category_counts import pack, unpack
from adaptclip_hf.evaluation.ranking import Ranking
from adaptclip_hf.evaluation.score_histogram import MOST_DROPPED_BITS, PAGE, ROOM

NAMES = {"AUROC": "auroc", "AP": "ap", "F1max": "f1max", "Overkill@2": "overkill@2", "Overkill@5": "overkill@5"}
NAMES |= {"Overkill@10": "overkill@10", "AUPRO": "aupro"}
KINDS = {"I": "image", "P": "pixel", "S": "sample"}


@pytest.mark.parametrize(("case", "aupro", "tolerance"), [("continuous", 0.54315, 2e-4), ("with_ties", 0.42694, 5e-3)])
def test_reference_figures(shared, case, aupro, tolerance):
    folder = shared / "reference" / "metrics"
    inputs, expected = load_file(folder / f"{case}.safetensors"), json.loads((folder / f"{case}.json").read_text())
    images, pixels = ImageMetrics(), PixelMetrics()
    for part in np.array_split(np.arange(len(inputs["labels"])), 3):
        images.update(inputs["scores"][part], inputs["labels"][part], inputs["sample_ids"][part])
        pixels.update(inputs["anomaly_maps"][part], inputs["masks"][part])
    figures = images.compute() | pixels.compute()
    compared = 0
    for theirs, value in expected.items():
        kind, _, name = theirs.partition("-")
        if kind in KINDS and name in NAMES:
            ours = figures[f"{KINDS[kind]}_{NAMES[name]}"]
            assert abs(ours - value) < (tolerance if name == "AUPRO" else 1e-5), theirs
            compared += 1
    assert compared >= 10
    assert abs(figures["pixel_aupro"] - aupro) < 1e-5
    if case == "continuous":
        assert max(pixels.error_bounds().values()) < 1e-3


@pytest.mark.parametrize("levels", [None, 12], ids=["continuous", "with ties"])
def test_scikit_learn(levels):
    rng = np.random.default_rng(3)
    labels = rng.random(500) < 0.3
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1).astype(np.float32)
    if levels:
        scores = (np.round(scores * levels) / levels).astype(np.float32)
    metrics = ImageMetrics()
    metrics.update(scores, labels)
    figures = metrics.compute()
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert figures["image_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert figures["image_f1max"] == pytest.approx(best, abs=1e-12)
    assert figures["image_threshold"] in thresholds
    assert f1_score(labels, scores >= figures["image_threshold"]) == pytest.approx(best, abs=1e-12)
    # points of one recall in ascending precision
    order = np.lexsort((precision, recall))
    assert figures["image_ap"] == pytest.approx(auc(recall[order], precision[order]), abs=1e-12)
    assert figures["image_average_precision"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_a_perfect_ranking_of_two_and_two():
    metrics = ImageMetrics()
    metrics.update([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    figures = metrics.compute()
    assert (figures["image_ap"], figures["image_average_precision"]) == (0.875, 1.0)
    precision, recall, _ = precision_recall_curve([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])
    assert auc(recall, precision) == 1.0  # as the pages say


def pimo_by_hand(maps: np.ndarray, masks: np.ndarray) -> float:
    """The mean over anomalous images of the area under each one's curve, from sorted scores, on a fine grid."""
    normal = [each.ravel() for each, mask in zip(maps, masks, strict=True) if not mask.any()]
    thresholds = np.unique(maps)[::-1]
    fall_out = np.mean([(each[None] >= thresholds[:, None]).mean(1) for each in normal], axis=0)
    grid = np.linspace(np.log(1e-5), np.log(1e-4), 20001)
    areas = []
    for each, mask in zip(maps, masks, strict=True):
        if mask.any():
            recall = (each[mask > 0][None] >= thresholds[:, None]).mean(1)
            free = recall[fall_out == 0].max(initial=0)
            rates, recall = np.log(fall_out[fall_out > 0]), recall[fall_out > 0]
            curve = np.interp(grid, rates, recall)
            curve[grid < rates[0]] = free
            areas.append(np.trapezoid(curve, grid) / (grid[-1] - grid[0]))
    return float(np.mean(areas))


@pytest.mark.parametrize("side", [400, 64], ids=["rates within the limits", "too few pixels for the lowest rates"])
def test_aupimo_by_hand(side):
    rng = np.random.default_rng(8)
    masks = np.zeros((5, side, side), np.uint8)
    masks[2, 3:9, 3:30] = masks[3, 5:50, 5:7] = masks[4, 1:20, 1:20] = 1
    levels = 400 if side == 400 else 40
    maps = np.clip(rng.normal(0.4 + 0.25 * masks, 0.08), 0, 1)
    maps = (np.round(maps * levels) / levels).astype(np.float32)
    pixels = PixelMetrics()
    for part in ([0, 3], [4, 1, 2]):
        pixels.update(maps[part], masks[part])
    figures = pixels.compute()
    assert 0.05 < figures["pixel_aupimo"] < 0.95
    assert figures["pixel_aupimo"] == pytest.approx(pimo_by_hand(maps, masks), abs=1e-4)
    assert figures["pixel_average_precision"] == pytest.approx(
        average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12
    )


def test_aupimo_needs_normal_images():
    pixels = PixelMetrics()
    maps, masks = np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 8))
    masks[0, 2:4] = maps[0, 2:4] = 1
    pixels.update(maps, masks)
    assert "pixel_aupimo" not in pixels.compute() and pixels.compute()["pixel_aupro"] == 1
    pixels.update(np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 8)))
    assert pixels.compute()["pixel_aupimo"] == 1


def test_counts_of_another_version_are_refused():
    with pytest.raises(ValueError, match="expected 5 counts"):
        PixelMetrics().add_state({"bins": np.zeros(1, np.int64), "counts": np.ones((3, 1), np.int64)})


def generated(count: int = 12, side: int = 64):
    rng = np.random.default_rng(5)
    masks = np.zeros((count, side, side), np.uint8)
    for index in range(0, count, 2):
        for _ in range(3):
            y, x = rng.integers(0, side - 12, 2)
            masks[index, y : y + rng.integers(2, 12), x : x + rng.integers(2, 12)] = 1
    maps = 1 / (1 + np.exp(-rng.normal(masks * 1.5 - 3, 1)))
    return maps.astype(np.float32), masks


def test_pixels_keep_the_stated_bound():
    maps, masks = generated()
    metrics = PixelMetrics()
    metrics.update(torch.tensor(maps), torch.tensor(masks))
    figures, bounds = metrics.compute(), metrics.error_bounds()
    exact = Ranking.of_scores(maps.ravel(), masks.ravel() > 0).figures()
    assert figures["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-5)
    for name in ("auroc", "ap", "f1max"):
        assert abs(figures[f"pixel_{name}"] - exact[name]) <= bounds[f"pixel_{name}"] + 1e-12, name
    assert bounds["pixel_auroc"] < 1e-5 and bounds["pixel_f1max"] < 1e-3
    assert abs(figures["pixel_aupro"] - aupro_by_thresholds(maps, masks)) < 1e-5


def aupro_by_thresholds(maps, masks) -> float:
    """By its definition: every distinct score a threshold, every region counted anew."""
    from scipy import ndimage

    order = np.argsort(-maps, axis=None)
    fall_out = np.r_[0, np.cumsum(masks.ravel()[order] == 0) / (masks == 0).sum()]
    overlap = np.zeros(maps.size + 1)
    regions = 0
    for index, mask in enumerate(masks):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += count
        for region in range(1, count + 1):
            inside = np.zeros(maps.shape, bool)
            inside[index] = labelled == region
            overlap[1:] += np.cumsum(inside.ravel()[order]) / inside.sum()
    overlap /= regions
    last = np.searchsorted(fall_out, 0.3, side="right")
    ends = np.r_[overlap[:last], np.interp(0.3, fall_out, overlap)]
    return np.trapezoid(ends, np.r_[fall_out[:last], 0.3]) / 0.3


def test_parts_merge_to_the_same_bits_in_any_order():
    maps, masks = generated()
    whole = PixelMetrics()
    whole.update(maps, masks)
    parts = []
    for chosen in np.array_split(np.random.default_rng(0).permutation(len(maps)), 3):
        parts.append(PixelMetrics())
        parts[-1].update(maps[chosen], masks[chosen])
    for order in ((0, 1, 2), (2, 0, 1)):
        merged = PixelMetrics()
        for index in order:
            merged.merge(parts[index])
        assert merged.compute() == whole.compute()
        assert all(np.array_equal(merged.state()[name], whole.state()[name]) for name in ("bins", "counts"))


@pytest.mark.parametrize("middle", [1.0, 0.7, 0.5, 1e-3])
@pytest.mark.parametrize("spread", [1e-7, 1e-6, 1e-4])
def test_scores_that_lie_close_together_keep_their_order(middle, spread):
    rng = np.random.default_rng(6)
    masks = np.zeros((4, 64, 64), np.uint8)
    masks[2:, 10:30, 10:40] = 1
    maps = (middle - spread * middle * (1 - 0.4 * masks - 0.6 * rng.random(masks.shape))).astype(np.float32)
    pixels = PixelMetrics()
    for part in ([0, 3], [1], [2]):
        pixels.update(maps[part], masks[part])
    figures = pixels.compute()
    assert figures["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    average = average_precision_score(masks.ravel(), maps.ravel())
    assert figures["pixel_average_precision"] == pytest.approx(average, abs=1e-12)


def test_bins_become_wide_the_same_way_in_any_order():
    rng = np.random.default_rng(7)
    maps = np.stack([rng.random((256, 256)) ** power for power in (1, 3, 9)] + [1 - 1e-6 * rng.random((256, 256))])
    maps, masks = maps.astype(np.float32), rng.random(maps.shape) < 0.2
    states, widths = [], []
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [3, 0, 1, 2]):
        whole, parts = PixelMetrics(), PixelMetrics()
        for index in order:
            one = PixelMetrics()
            one.update(maps[index : index + 1], masks[index : index + 1])
            widths.append(one.counts.dropped_bits)
            whole.update(maps[index : index + 1], masks[index : index + 1])
            parts.add_state(unpack(pack(one.state())))
        states += [whole.state(), parts.state()]
    assert min(widths) == 0 < max(widths) <= int(states[0]["dropped_bits"]) <= MOST_DROPPED_BITS
    for state in states[1:]:
        assert all(np.array_equal(state[name], states[0][name]) for name in states[0])


def test_counts_of_earlier_versions_are_read():
    maps, masks = generated()
    bits = maps.view(np.int32) >> MOST_DROPPED_BITS
    bins, bin_of = np.unique(bits, return_inverse=True)
    counts = np.zeros((5, len(bins)), np.int64)
    np.add.at(counts[0], bin_of.ravel(), 1)
    np.add.at(counts[1], bin_of.ravel(), masks.ravel())
    read, now = PixelMetrics(), PixelMetrics()
    read.add_state({"bins": bins, "counts": counts})
    now.update(maps, masks)
    assert read.ranking().figures()["auroc"] == pytest.approx(now.compute()["pixel_auroc"], abs=1e-5)
    read.merge(now)
    assert read.ranking().true[-1] == 2 * masks.sum() and read.counts.dropped_bits == MOST_DROPPED_BITS


def test_memory_does_not_grow_with_the_number_of_maps():
    maps, masks = generated()
    metrics = PixelMetrics()
    metrics.update(maps, masks)
    metrics.compute()
    size = metrics.counts.tables.nbytes
    for _ in range(10):
        metrics.update(maps, masks)
    assert metrics.counts.tables.nbytes == size
    metrics, rng = PixelMetrics(), np.random.default_rng(9)
    for _ in range(5):  # of which each score may be another
        metrics.update(0.5 + 0.5 * rng.random((4, 256, 256)), np.zeros((4, 256, 256)))
    assert metrics.counts.tables.nbytes <= 2 * ROOM * PAGE * 5 * 8


def test_images_by_hand():
    metrics = ImageMetrics()
    assert metrics.compute() == {}
    metrics.update(torch.tensor([0.1, 0.4]), torch.tensor([0, 0]))
    assert metrics.compute() == {}
    metrics.update([0.4, 0.8], [1, 1])
    figures = metrics.compute()
    assert figures["image_auroc"] == pytest.approx(3.5 / 4)  # four pairs, one of them a tie
    assert figures["image_f1max"] == pytest.approx(0.8)
    assert figures["image_threshold"] == pytest.approx(0.4)
    # the 2nd percentile of 0.4 and 0.8 is above 0.4
    assert figures["image_overkill@2"] == 0


def test_samples_by_hand():
    metrics = ImageMetrics()
    metrics.update([0.1, 0.9, 0.2], [0, 1, 0], ["a", "b", "a"])
    metrics.update([0.3, 0.5], [0, 0], ["b", "c"])
    figures = metrics.compute()
    assert figures["sample_auroc"] == 1.0 and figures["image_auroc"] == 1.0
    assert figures["sample_threshold"] == pytest.approx(0.9)


def test_pixels_by_hand():
    maps = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])
    pixels = PixelMetrics()
    assert pixels.compute() == {} and pixels.error_bounds() == {}
    pixels.update(maps, (maps > 0.3).int())
    # the last step to full recall ends at the share of anomalous pixels, as in the reference: (1 + (1 + 0.5) / 2) / 2
    figures = {"pixel_auroc": 1.0, "pixel_ap": 0.875, "pixel_f1max": 1.0, "pixel_threshold": 0.5, "pixel_aupro": 1.0}
    figures["pixel_average_precision"] = 1.0
    assert pixels.compute() == figures


def test_bad_input():
    images, pixels = ImageMetrics(), PixelMetrics()
    with pytest.raises(ValueError, match=r"scores \(B,\) and labels \(B,\)"):
        images.update([0.1], [0, 1])
    with pytest.raises(ValueError, match="not finite"):
        images.update([float("nan")], [0])
    with pytest.raises(ValueError, match="labels of 0 and 1"):
        images.update([0.1], [2])
    with pytest.raises(ValueError, match="1 sample_ids, one an image, got 2"):
        images.update([0.1], [0], ["a", "b"])
    images.update([0.1], [0], ["a"])
    with pytest.raises(ValueError, match="with every update, or with none"):
        images.update([0.1], [0])
    with pytest.raises(ValueError, match="one shape"):
        pixels.update(np.zeros((1, 4, 4)), np.zeros((1, 4, 5)))
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"anomaly maps in \[0, 1\]"):
            pixels.update(np.full((1, 2, 2), wrong), np.zeros((1, 2, 2)))
    assert pixels.compute() == {}


def test_the_module_of_the_evaluate_library(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_EVALUATE_OFFLINE", "1")
    metric = evaluate.load(IMAGE_SCORES, cache_dir=str(tmp_path))
    rng = np.random.default_rng(0)
    scores, labels = rng.random(40).astype(np.float32), rng.integers(0, 2, 40)
    ids = [f"part {index // 2}" for index in range(40)]
    for first in range(0, 40, 10):
        metric.add_batch(predictions=scores[first : first + 10], references=labels[first : first + 10])
    figures = metric.compute(sample_ids=ids)
    ours = ImageMetrics()
    ours.update(scores, labels, ids)
    assert figures == ours.compute() and "sample_auroc" in figures
