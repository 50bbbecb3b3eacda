"""Time and memory of the pixel metrics on generated maps that come and go, and scikit-learn's on a few of them.

    python benchmarks/metrics.py --maps 1000 4000

Each count runs in a process of its own, whose peak of memory is its own. Generating the maps is not timed.
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np
from scipy import ndimage
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score
from tqdm import tqdm

from adaptclip_hf.evaluation import PixelMetrics

SIDE = 518
GIB = 2**20  # of the kibibytes that getrusage gives


class Maps:
    """Smooth maps in [0, 1] with raised values inside the regions of a mask; every second image is normal."""

    def __init__(self):
        noise = np.random.default_rng(0).standard_normal((2 * SIDE, 2 * SIDE)).astype(np.float32)
        self.field = 10 * ndimage.gaussian_filter(noise, 4)
        self.y, self.x = np.mgrid[:SIDE, :SIDE]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(index)
        top, left = rng.integers(0, SIDE, 2)
        mask = np.zeros((SIDE, SIDE), bool)
        for _ in range(rng.integers(1, 6) if index % 2 else 0):
            y, x = rng.integers(0, SIDE, 2)
            mask |= (self.y - y) ** 2 + (self.x - x) ** 2 < rng.integers(5, 60) ** 2
        logits = self.field[top : top + SIDE, left : left + SIDE] + mask * rng.uniform(0, 2) - 3
        return (1 / (1 + np.exp(-logits))).astype(np.float32), mask


def stream(count: int) -> dict:
    maps, metrics, seconds = Maps(), PixelMetrics(), 0.0
    maps[1]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in tqdm(range(count), desc=f"{count} maps", leave=False, disable=None):
        anomaly_map, mask = maps[index]
        start = time.perf_counter()
        metrics.update(anomaly_map[None], mask[None])
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    figures, bounds = metrics.compute(), metrics.error_bounds()
    seconds += time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "gib": (after - before) / GIB, "figures": figures, "bounds": bounds}


def sorting(count: int) -> dict:
    """AUROC and AP of all pixels at once, by sorting."""
    maps = Maps()
    chosen = [maps[index] for index in range(count)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    scores, labels = (np.concatenate([each[part].ravel() for each in chosen]) for part in (0, 1))
    precision, recall, _ = precision_recall_curve(labels, scores)
    figures = {"pixel_auroc": float(roc_auc_score(labels, scores)), "pixel_ap": float(auc(recall, precision))}
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "gib": (after - before) / GIB, "figures": figures}


def apart(function, count: int) -> dict:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, (count,))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--sorted-maps", type=int, default=30, help="maps for scikit-learn (%(default)s)")
    args = parser.parse_args()
    print("| what | maps | seconds | per map, ms | GiB above the start |")
    print("|---|---|---|---|---|")
    rows = [("all pixel metrics, streamed", stream, count) for count in [args.sorted_maps, *args.maps]]
    rows.append(("scikit-learn, AUROC and AP alone, sorting", sorting, args.sorted_maps))
    results = {}
    for name, function, count in rows:
        got = results[function, count] = apart(function, count)
        each = 1000 * got["seconds"] / count
        print(f"| {name} | {count} | {got['seconds']:.1f} | {each:.1f} | {got['gib']:.2f} |", flush=True)
    ours, theirs = results[stream, args.sorted_maps], results[sorting, args.sorted_maps]
    print(f"\nscikit-learn takes {theirs['seconds'] / ours['seconds']:.1f} times as long on the same maps")
    for name, value in theirs["figures"].items():
        print(f"{name}: differs by {abs(value - ours['figures'][name]):.1e}, bound {ours['bounds'][name]:.1e}")


if __name__ == "__main__":
    main()
