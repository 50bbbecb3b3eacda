"""What has been counted of a category so far; it can be merged with other processes' counts and kept on disk."""

import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..files import array_of, write_whole
from .metrics import PixelMetrics
from .protocol import EvaluatedCategory, Setting
from .scoring import ScoredBatch
from .showcase import Showcase, ShownImage

METADATA = "tally"  # its name in the files, also in those of earlier versions


@dataclass
class CategoryCounts:
    """Scores, pixel counts and a few maps of the batches that are done.

    Attributes:
        settings: the settings that are scored.
        shown_setting: the setting whose maps are kept to be shown.
        done: numbers of the batches.
        scores: {row: (settings,)}.
        pixels: {setting: counts}.
        failures: {row: why it could not be read}.
        seconds, encoder_seconds: sums over all threads and processes.
    """

    settings: list[Setting]
    shown_setting: Setting
    done: set[int] = field(default_factory=set)
    scores: dict[int, np.ndarray] = field(default_factory=dict)
    pixels: dict[Setting, PixelMetrics] = field(default_factory=dict)
    showcase: Showcase = field(default_factory=Showcase)
    failures: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    encoder_seconds: float = 0.0

    def __post_init__(self):
        self.pixels = self.pixels or {setting: PixelMetrics() for setting in self.settings}

    def add(self, number: int, batch: ScoredBatch, category: EvaluatedCategory):
        self.done.add(number)
        self.failures |= batch.failures
        self.seconds += batch.seconds
        self.encoder_seconds += batch.encoder_seconds
        for index, row in enumerate(batch.rows):
            self.scores[row] = np.array([batch.scores[setting][index] for setting in self.settings], np.float32)
        known = [index for index, mask in enumerate(batch.masks) if mask is not None]
        masks = [mask for mask in batch.masks if mask is not None]
        for setting, maps in batch.anomaly_maps.items():
            if known:
                self.pixels[setting].update(maps[known], np.stack(masks))
        if batch.rows:
            maps, scores = batch.anomaly_maps[self.shown_setting], batch.scores[self.shown_setting]
            labels = [bool(category.rows[row]["label"]) for row in batch.rows]
            shown = zip(scores.tolist(), batch.rows, labels, maps, strict=True)
            self.showcase.update([ShownImage(*each) for each in shown])

    def merge(self, other: "CategoryCounts"):
        """Adds the counts of other batches.

        Raises:
            ValueError: both counted the same batch.
        """
        if twice := self.done & other.done:
            raise ValueError(f"Batches {sorted(twice)[:5]} were counted twice.")
        self.done |= other.done
        self.scores |= other.scores
        self.failures |= other.failures
        self.seconds += other.seconds
        self.encoder_seconds += other.encoder_seconds
        for setting, pixels in self.pixels.items():
            pixels.merge(other.pixels[setting])
        self.showcase.update(list(other.showcase.kept.values()))

    def save(self, file: Path):
        """Writes the counts; the file appears whole or not at all."""
        shown = list(self.showcase.kept.values())
        tensors = {
            "rows": np.array(list(self.scores), np.int64),
            "scores": np.array(list(self.scores.values()), np.float32).reshape(len(self.scores), len(self.settings)),
            "done": np.array(sorted(self.done), np.int64),
        }
        tensors |= {f"pixels.{index}": pack(self.pixels[each].state()) for index, each in enumerate(self.settings)}
        tensors |= {f"map.{each.row}": each.anomaly_map for each in shown}
        rest = {
            "settings": self.settings,
            "failures": self.failures,
            "seconds": self.seconds,
            "encoder_seconds": self.encoder_seconds,
            "shown": [(each.score, each.row, each.anomalous) for each in shown],
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        write_whole(file, save(arrays, {METADATA: json.dumps(rest)}))

    @classmethod
    def load(cls, file: Path, settings: list[Setting], shown_setting: Setting) -> "CategoryCounts | None":
        """Reads a file of counts; `None` if they are of other settings.

        Raises:
            ValueError: the file cannot be read.
        """
        counts = cls(settings, shown_setting)
        try:
            with safe_open(file, framework="numpy") as tensors:
                rest = json.loads((tensors.metadata() or {})[METADATA])
                if [Setting(*each) for each in rest["settings"]] != settings:
                    return None
                arrays = {name: array_of(tensors, name) for name in tensors.keys()}
            counts.done = set(arrays["done"].tolist())
            counts.scores = dict(zip(arrays["rows"].tolist(), arrays["scores"], strict=True))
            for index, setting in enumerate(settings):
                counts.pixels[setting].add_state(unpack(arrays[f"pixels.{index}"]))
            shown = [ShownImage(score, row, label, arrays[f"map.{row}"]) for score, row, label in rest["shown"]]
            counts.showcase.update(shown)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise ValueError(f"{file} cannot be read as progress of this evaluation ({error}): remove it.") from error
        counts.failures = {int(row): line for row, line in rest["failures"].items()}
        counts.seconds, counts.encoder_seconds = rest["seconds"], rest["encoder_seconds"]
        return counts


def pack(state: dict[str, np.ndarray]) -> np.ndarray:
    """Pixel counts as bytes, a tenth of their size: most counts are small, and the bins lie close together."""
    columns = {"bins": np.diff(state["bins"], prepend=0), "dropped_bits": state["dropped_bits"]}
    columns |= {str(number): each for number, each in enumerate(state["counts"])}
    smaller: dict[str, Any] = {
        name: each.astype(np.min_scalar_type(int(each.max(initial=0)))) for name, each in columns.items()
    }
    buffer = BytesIO()
    np.savez_compressed(buffer, **smaller)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def unpack(packed: np.ndarray) -> dict[str, np.ndarray]:
    """The inverse of [`pack`]."""
    with np.load(BytesIO(packed.tobytes()), allow_pickle=False) as columns:
        bins = np.cumsum(columns["bins"].astype(np.int64))
        counts = [columns[name].astype(np.int64) for name in sorted(filter(str.isdigit, columns.files), key=int)]
        width = {name: columns[name] for name in ("dropped_bits",) if name in columns.files}
    return {"bins": bins, "counts": np.stack(counts), **width}
