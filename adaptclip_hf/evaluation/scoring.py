"""Scores a category's test images in every setting, whatever the scores come from."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ..processing.image_loading import load_mask, resized_mask
from .protocol import EvaluatedCategory, Setting

WORKERS_BESIDE_A_GPU = 2


@dataclass
class ScoredBatch:
    """Scores and maps of some test images.

    Attributes:
        rows: the category's rows that could be read.
        scores: {setting: (B,)}.
        anomaly_maps: {setting: (B, H, W)}.
        masks: for each image (H, W) of 0 and 1, or `None` where an anomalous image has no mask.
        failures: {row: why it could not be read}.
        seconds, encoder_seconds: time that the thread spent.
    """

    rows: list[int] = field(default_factory=list)
    scores: dict[Setting, np.ndarray] = field(default_factory=dict)
    anomaly_maps: dict[Setting, np.ndarray] = field(default_factory=dict)
    masks: list[np.ndarray | None] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    encoder_seconds: float = 0.0


class CategoryScorer:
    """What the sources of a category's scores have in common; a source implements `read` and `score_inputs`.

    Attributes:
        asked, settings: the settings that were asked for, and those that can be scored.
        notes: why the others cannot.
        workers: the number of threads, see [`one_thread_each`].
        map_size: side to which maps (bilinear) and masks (nearest) are reduced before they are compared.
        encoder_seconds: time spent before the first batch.
    """

    def __init__(self, category: EvaluatedCategory, settings: list[Setting], workers: int, map_size: int | None = None):
        self.category, self.asked, self.settings = category, settings, settings
        self.workers, self.map_size = workers, map_size
        self.notes: list[str] = []
        self.encoder_seconds = 0.0

    def prompts(self, setting: Setting) -> dict[str | None, list[int]]:
        """{view: the rows of its normal images}."""
        return {}

    def read(self, row: int) -> tuple[Any, np.ndarray | None]:
        """What a test image's score is computed from, and its mask.

        Raises:
            OSError, ValueError: one of them cannot be read.
        """
        raise NotImplementedError

    def score_inputs(self, inputs: list, batch: ScoredBatch):
        """Writes the scores and maps of what was read for `batch.rows`, all of one view, into the batch."""
        raise NotImplementedError

    def score(self, batches: dict[int, list[int]]) -> Iterator[tuple[int, ScoredBatch]]:
        """(number, result) of each batch, in order."""
        with self._pool() as pool:
            submitted = ((number, pool.submit(self.score_batch, rows)) for number, rows in batches.items())
            waiting = deque(islice(submitted, self.workers + 2))
            try:
                while waiting:
                    number, result = waiting.popleft()
                    yield number, result.result()
                    waiting.extend(islice(submitted, 1))
            finally:
                pool.shutdown(cancel_futures=True)

    def _pool(self) -> ThreadPoolExecutor:
        # a new thread starts with OpenMP's default until torch's number of threads is set in it
        threads = torch.get_num_threads()
        return ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(threads,))

    def score_batch(self, rows: list[int]) -> ScoredBatch:
        """Scores and maps of some test images of one view."""
        start, batch, inputs = time.perf_counter(), ScoredBatch(), []
        for row in rows:
            try:
                given, mask = self.read(row)
            except (OSError, ValueError) as error:
                batch.failures[row] = str(error)
                continue
            except MemoryError:
                batch.failures[row] = "too large for the memory that is free here"
                continue
            inputs.append(given)
            batch.masks.append(mask)
            batch.rows.append(row)
        if inputs:
            self.score_inputs(inputs, batch)
        batch.seconds = time.perf_counter() - start
        return batch

    def reduced(self, anomaly_maps: torch.Tensor) -> torch.Tensor:
        """Maps (B, H, W) at the size at which they are compared."""
        if self.map_size is None:
            return anomaly_maps
        return F.interpolate(anomaly_maps[:, None], size=2 * [self.map_size], mode="bilinear", align_corners=False)[
            :, 0
        ]

    def mask_of(self, row: int, height: int, width: int) -> np.ndarray | None:
        """An image's mask of 0 and 1, at its map's size and then reduced as the map is; `None` where an anomalous image
        has none."""
        example = self.category.rows[row]
        if example["mask"] is not None:
            mask = resized_mask(load_mask(example["mask"]), height, width)
        elif example["label"]:
            return None
        else:
            mask = np.zeros((height, width), np.float32)
        if self.map_size is None:
            return mask
        return F.interpolate(torch.from_numpy(mask)[None, None], size=2 * [self.map_size], mode="nearest")[0, 0].numpy()


@contextmanager
def one_thread_each(device: torch.device) -> Iterator[int]:
    """The number of workers to start: on a CPU one for each of torch's threads, and each computes with one thread.

    Scores then do not depend on how many threads or processes share the work: when several threads share a product, its
    last bits can change.
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
