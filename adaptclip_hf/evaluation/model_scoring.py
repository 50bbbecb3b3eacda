"""Scores of a model, each image encoded once for all settings."""

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
    """A detector that has remembered the normal images that any setting draws for a category.

    The settings with an unreadable or missing prompt are left out.
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
        """Makes the banks of each setting; drops the settings whose prompts are not there."""
        few_shot = [setting for setting in settings if setting.shots]
        if few_shot and (views := self.category.views_without_normals()):
            where = "" if views == [None] else f" in view {', '.join(map(str, views))}"
            self.notes.append(f"no normal image to compare with{where}: few-shot figures are left out")
            return [setting for setting in settings if not setting.shots]
        drawn = {row for setting in settings for rows in self.prompts(setting).values() for row in rows}
        remembered = self._remember(sorted(drawn))
        banks = {row: each for row, each in remembered.items() if isinstance(each, PromptBank)}
        unreadable = {row: each for row, each in remembered.items() if isinstance(each, str)}
        usable = []
        for setting in settings:
            prompts = self.prompts(setting)
            broken = [unreadable[row] for rows in prompts.values() for row in rows if row in unreadable]
            if broken:
                self.notes.append(f"{setting} is left out, a normal image drawn for it cannot be read: {broken[0]}")
                continue
            usable.append(setting)
            for view, rows in prompts.items():
                self.banks[view, setting] = PromptBank.concatenate([banks[row] for row in rows])
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

    def score_batch(self, rows: list[int]) -> ScoredBatch:
        batch, detector = ScoredBatch(), self.detector
        pixel_values, size = [], detector.processor.image_processor.size
        for row in rows:
            try:
                mask = self.mask_of(row, size["height"], size["width"])
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
                scores, maps = zip(*to_cpu(detector.model, scores, self.reduced(maps)), strict=True)
                batch.scores[setting] = np.array(scores, np.float32)
                batch.anomaly_maps[setting] = np.stack(maps)
        return batch
