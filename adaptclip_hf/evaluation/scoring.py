"""Scores a category's test images in every setting, whatever the scores come from."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from ..processing.image_loading import load_mask, resized_mask
from .protocol import EvaluatedCategory, Setting

WORKERS_BESIDE_A_GPU = 2


@dataclass
class ScoredBatch:
    """What the settings make of some test images.

    Attributes:
        rows: of the category, those that could be read.
        scores: {setting: (B,)}.
        anomaly_maps: {setting: (B, H, W)}.
        masks: for each image (H, W) of 0 and 1, or `None` where an anomalous image has no mask.
        failures: {row: why it could not be read}.
        seconds, encoder_seconds: of the thread that did it.
    """

    rows: list[int] = field(default_factory=list)
    scores: dict[Setting, np.ndarray] = field(default_factory=dict)
    anomaly_maps: dict[Setting, np.ndarray] = field(default_factory=dict)
    masks: list[np.ndarray | None] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    encoder_seconds: float = 0.0


class CategoryScorer:
    """Where a category's scores and maps come from; what is the same for all sources.

    Attributes:
        asked, settings: those that were asked for, and those that can be had.
        notes: why some cannot.
        workers: how many threads work at a time, see [`one_thread_each`].
        map_size: side to which maps (bilinear) and masks (nearest) are reduced before they are compared.
        encoder_seconds: of what was done before the first batch.
    """

    def __init__(self, category: EvaluatedCategory, settings: list[Setting], workers: int, map_size: int | None = None):
        self.category, self.asked, self.settings = category, settings, settings
        self.workers, self.map_size = workers, map_size
        self.notes: list[str] = []
        self.encoder_seconds = 0.0

    def prompts(self, setting: Setting) -> dict[str | None, list[int]]:
        """The rows of the normal images of each view."""
        return {}

    def score_batch(self, rows: list[int]) -> ScoredBatch:
        """Scores and maps of some test images of one view."""
        raise NotImplementedError

    def _pool(self) -> ThreadPoolExecutor:
        # a new thread has OpenMP's own default until torch's number is set in it
        threads = torch.get_num_threads()
        return ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(threads,))

    def score(self, batches: dict[int, list[int]]) -> Iterator[tuple[int, ScoredBatch]]:
        """(number, what came out) of each batch, in order."""
        with self._pool() as pool:
            waiting: deque = deque()
            try:
                for number, rows in batches.items():
                    waiting.append((number, pool.submit(self._timed, rows)))
                    if len(waiting) > self.workers + 1:
                        number, result = waiting.popleft()
                        yield number, result.result()
                while waiting:
                    number, result = waiting.popleft()
                    yield number, result.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _timed(self, rows: list[int]) -> ScoredBatch:
        start = time.perf_counter()
        batch = self.score_batch(rows)
        batch.seconds = time.perf_counter() - start
        return batch

    def reduced(self, anomaly_maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W) of the size in which they are compared."""
        if self.map_size is None:
            return anomaly_maps
        size = (self.map_size, self.map_size)
        return F.interpolate(anomaly_maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]

    def mask_of(self, row: int, height: int, width: int) -> np.ndarray | None:
        """An image's mask, 0 and 1, brought to its map's size and reduced likewise; `None` where an anomalous image has
        none."""
        example = self.category.rows[row]
        if example["mask"] is not None:
            mask = resized_mask(load_mask(example["mask"]), height, width)
        elif example["label"]:
            return None
        else:
            mask = np.zeros((height, width), np.float32)
        if self.map_size is None:
            return mask
        size = (self.map_size, self.map_size)
        return F.interpolate(torch.from_numpy(mask)[None, None], size=size, mode="nearest")[0, 0].numpy()


@contextmanager
def one_thread_each(device: torch.device) -> Iterator[int]:
    """How many workers to start; on a CPU one for each of torch's threads, and each computes with one thread.

    What a thread computes alone does not depend on how many threads or processes share the work: the last bits of
    some products do when several threads share them.
    """
    if device.type != "cpu":
        yield WORKERS_BESIDE_A_GPU
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
