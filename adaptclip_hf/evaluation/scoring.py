"""Scores a category's test images in every setting, each image encoded once."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F

from ..engine import AnomalyDetector, View
from ..modeling import PromptBank
from .protocol import EvaluatedCategory, Setting

WORKERS_BESIDE_A_GPU = 2
PROTOCOL_VIEW = View(tile="whole")  # the paper squeezes every image into a square


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
    """A detector that has remembered the normal images that any setting draws for a category.

    Args:
        settings: those that can be computed; the ones with an unreadable or missing prompt are left out, with the
            reason in `notes`.
        workers: how many threads work at a time, see [`one_thread_each`].
        map_size: side to which maps (bilinear) and masks (nearest) are reduced before they are compared.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        category: EvaluatedCategory,
        settings: list[Setting],
        workers: int,
        map_size: int | None = None,
    ):
        self.detector, self.category, self.asked = detector, category, settings
        self.workers, self.map_size = workers, map_size
        self.notes: list[str] = []
        self.encoder_seconds = 0.0
        self.text_embeds = detector.encode_text()
        self.banks: dict[tuple[str | None, Setting], PromptBank] = {}
        self.settings = self._settings_with_banks(settings)

    def _settings_with_banks(self, settings: list[Setting]) -> list[Setting]:
        """Makes the banks of each setting; drops the settings whose prompts are not there."""
        few_shot = [setting for setting in settings if setting.shots]
        if few_shot and (views := self.category.views_without_normals()):
            where = "" if views == [None] else f" in view {', '.join(map(str, views))}"
            self.notes.append(f"no normal image to compare with{where}: few-shot figures are left out")
            return [setting for setting in settings if not setting.shots]
        drawn = {row for setting in settings for rows in self.prompts(setting).values() for row in rows}
        remembered = self._remember(sorted(drawn))
        usable = []
        for setting in settings:
            prompts = self.prompts(setting)
            broken = [remembered[row] for rows in prompts.values() for row in rows if isinstance(remembered[row], str)]
            if broken:
                self.notes.append(f"{setting} is left out, a normal image drawn for it cannot be read: {broken[0]}")
                continue
            usable.append(setting)
            for view, rows in prompts.items():
                self.banks[view, setting] = PromptBank.concatenate([remembered[row] for row in rows])
        return usable

    def prompts(self, setting: Setting) -> dict[str | None, list[int]]:
        """The rows of the normal images of each view."""
        if not setting.shots:
            return {}
        return {view: self.category.prompts(view, setting) for view in self.category.queries}

    def _remember(self, rows: list[int]) -> dict[int, PromptBank | str]:
        """{row: its bank, or why it cannot be read}."""

        def remember(row: int) -> PromptBank | str:
            try:
                return self.detector.remember([self.category.rows[row]["image"]], view=PROTOCOL_VIEW)
            except (OSError, ValueError) as error:
                return str(error)

        start = time.perf_counter()
        with self._pool() as pool:
            remembered = dict(zip(rows, pool.map(remember, rows), strict=True))
        self.encoder_seconds += time.perf_counter() - start
        return remembered

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
                    waiting.append((number, pool.submit(self._score_batch, rows)))
                    if len(waiting) > self.workers + 1:
                        number, result = waiting.popleft()
                        yield number, result.result()
                while waiting:
                    number, result = waiting.popleft()
                    yield number, result.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _score_batch(self, rows: list[int]) -> ScoredBatch:
        start, batch, detector = time.perf_counter(), ScoredBatch(), self.detector
        pixel_values = []
        for row in rows:
            try:
                mask = self._mask_of(row)
                pixel_values.append(detector.processor(self.category.rows[row]["image"])["pixel_values"])
            except (OSError, ValueError) as error:
                batch.failures[row] = str(error)
                continue
            batch.rows.append(row)
            batch.masks.append(mask)
        if batch.rows:
            encoding = time.perf_counter()
            features = detector.encode(torch.cat(pixel_values))
            if detector.device.type == "cuda":
                torch.cuda.synchronize(detector.device)
            batch.encoder_seconds = time.perf_counter() - encoding
            view = self.category.rows[rows[0]]["view"]
            for setting in self.settings:
                scores, maps = detector.score(features, self.banks.get((view, setting)), self.text_embeds)
                scores, maps = zip(*detector.to_host(scores, self._reduce(maps)), strict=True)
                batch.scores[setting] = np.array(scores, np.float32)
                batch.anomaly_maps[setting] = np.stack(maps)
        batch.seconds = time.perf_counter() - start
        return batch

    def _reduce(self, anomaly_maps: torch.Tensor) -> torch.Tensor:
        if self.map_size is None:
            return anomaly_maps
        size = (self.map_size, self.map_size)
        return F.interpolate(anomaly_maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]

    def _mask_of(self, row: int) -> np.ndarray | None:
        """(H, W) of 0 and 1; `None` where an anomalous image has no mask."""
        example, size = self.category.rows[row], self.detector.processor.image_processor.size
        if example["mask"] is not None:
            mask = self.detector.processor.image_processor.read_mask(example["mask"])
        elif example["label"]:
            return None
        else:
            mask = np.zeros((size["height"], size["width"]), np.float32)
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
