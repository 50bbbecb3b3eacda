"""Scores of a model; each image is encoded once for all settings."""

import time

import numpy as np
import torch

from ..detector import AnomalyDetector
from ..engine import View
from ..engine.scoring import to_cpu
from ..modeling import PromptBank
from .protocol import EvaluatedCategory, Setting
from .scoring import CategoryScorer, ScoredBatch

PROTOCOL_VIEW = View(tile="whole")  # the paper squeezes every image into a square


class ModelScorer(CategoryScorer):
    """Scores a category with a detector, against the normal images that each setting draws.

    Settings whose normal images are missing or cannot be read are left out.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        category: EvaluatedCategory,
        settings: list[Setting],
        workers: int,
        map_size: int | None = None,
    ):
        super().__init__(category, settings, workers, map_size)
        self.detector = detector
        self.text_embeds = detector.encode_text()
        self.banks: dict[tuple[str | None, Setting], PromptBank] = {}
        self.settings = self._settings_with_banks(settings)

    def _settings_with_banks(self, settings: list[Setting]) -> list[Setting]:
        """Makes the banks of each setting; leaves out the settings whose normal images cannot be had."""
        if any(setting.shots for setting in settings) and (views := self.category.views_without_normals()):
            where = "" if views == [None] else f" in view {', '.join(map(str, views))}"
            self.notes.append(f"no normal image to compare with{where}: few-shot figures are left out")
            return [setting for setting in settings if not setting.shots]
        banks, unreadable = self._remember(sorted({row for setting in settings for row in self._drawn(setting)}))
        usable = []
        for setting in settings:
            if broken := [unreadable[row] for row in self._drawn(setting) if row in unreadable]:
                self.notes.append(f"{setting} is left out, a normal image drawn for it cannot be read: {broken[0]}")
                continue
            usable.append(setting)
            for view, rows in self.prompts(setting).items():
                self.banks[view, setting] = self._together(rows, banks)
        return usable

    def _together(self, rows: list[int], banks: dict[int, PromptBank]) -> PromptBank:
        """The bank of some rows, as `remember` makes it: it turns their images where that brings these nearer."""
        if len(rows) > 1 and self.detector.model.config.normal_variation:
            start = time.perf_counter()
            bank = self.detector.remember((self.category.rows[row]["image"] for row in rows), view=PROTOCOL_VIEW)
            self.encoder_seconds += time.perf_counter() - start
            return bank
        return PromptBank.concatenate([banks[row] for row in rows])

    def prompts(self, setting: Setting) -> dict[str | None, list[int]]:
        if not setting.shots:
            return {}
        return {view: self.category.prompts(view, setting) for view in self.category.queries}

    def _drawn(self, setting: Setting) -> list[int]:
        """The rows of the normal images of all views."""
        return [row for rows in self.prompts(setting).values() for row in rows]

    def _remember(self, rows: list[int]) -> tuple[dict[int, PromptBank], dict[int, str]]:
        """{row: bank of one image} and {row: why it cannot be read}."""
        banks: dict[int, PromptBank] = {}
        unreadable: dict[int, str] = {}

        def remember(row: int):
            try:
                banks[row] = self.detector.remember([self.category.rows[row]["image"]], view=PROTOCOL_VIEW)
            except (OSError, ValueError) as error:
                unreadable[row] = str(error)

        start = time.perf_counter()
        with self._pool() as pool:
            list(pool.map(remember, rows))
        self.encoder_seconds += time.perf_counter() - start
        return banks, unreadable

    def read(self, row: int) -> tuple[torch.Tensor, np.ndarray | None]:
        """Pixel values (1, 3, S, S) and the mask (S, S)."""
        size = self.detector.processor.image_processor.size
        mask = self.mask_of(row, size["height"], size["width"])
        return self.detector.processor(self.category.rows[row]["image"])["pixel_values"], mask

    def score_inputs(self, inputs: list[torch.Tensor], batch: ScoredBatch):
        start, detector = time.perf_counter(), self.detector
        features = detector.encode(torch.cat(inputs))
        if detector.device.type == "cuda":
            torch.cuda.synchronize(detector.device)
        batch.encoder_seconds = time.perf_counter() - start
        view = self.category.rows[batch.rows[0]]["view"]
        for setting in self.settings:
            scores, maps = detector.score(features, self.banks.get((view, setting)), self.text_embeds)
            scores, maps = zip(*to_cpu(detector.model, scores, self.reduced(maps)), strict=True)
            batch.scores[setting] = np.array(scores, np.float32)
            batch.anomaly_maps[setting] = np.stack(maps)
