"""What has been counted of a category so far: it merges with other processes' and lies on disk between two runs."""

import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..files import write_whole
from .metrics import PixelMetrics
from .protocol import EvaluatedCategory, Setting
from .scoring import ScoredBatch
from .showcase import Showcase, Shown


@dataclass
class CategoryTally:
    """Scores, pixel counts and a few maps of the batches that are done.

    Attributes:
        settings: what is scored.
        shown_setting: the setting of which maps are kept to be shown.
        done: numbers of the batches.
        scores: {row: (settings,)}.
        pixels: {setting: counts}.
        failures: {row: why it could not be read}.
        seconds, encoder_seconds: of all threads and processes together.
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
        masks = [batch.masks[index] for index in known]
        for setting, maps in batch.anomaly_maps.items():
            if known:
                self.pixels[setting].update(maps[known], np.stack(masks))
        if batch.rows:
            maps, scores = batch.anomaly_maps[self.shown_setting], batch.scores[self.shown_setting]
            labels = [bool(category.rows[row]["label"]) for row in batch.rows]
            shown = zip(scores.tolist(), batch.rows, labels, maps, strict=True)
            self.showcase.update([Shown(*each) for each in shown])

    def merge(self, other: "CategoryTally"):
        """Adds what another counted of other batches.

        Raises:
            ValueError: for a batch that both counted.
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
        """Writes the tally; the file appears whole or not at all."""
        shown = list(self.showcase.kept.values())
        tensors = {
            "rows": np.array(list(self.scores), np.int64),
            "scores": np.stack([*self.scores.values(), np.zeros(len(self.settings), np.float32)])[:-1],
            "done": np.array(sorted(self.done), np.int64),
        }
        for index, setting in enumerate(self.settings):
            tensors[f"pixels.{index}"] = pack(self.pixels[setting].state())
        for each in shown:
            tensors[f"map.{each.row}"] = each.anomaly_map
        rest = {
            "settings": self.settings,
            "failures": self.failures,
            "seconds": self.seconds,
            "encoder_seconds": self.encoder_seconds,
            "shown": [(each.score, each.row, each.anomalous) for each in shown],
        }
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        write_whole(file, save(arrays, {"tally": json.dumps(rest)}))

    @classmethod
    def load(cls, file: Path, settings: list[Setting], shown_setting: Setting) -> "CategoryTally | None":
        """Reads a tally; `None` where it is of other settings.

        Raises:
            ValueError: the file is none.
        """
        tally = cls(settings, shown_setting)
        try:
            with safe_open(file, framework="numpy") as tensors:
                rest = json.loads(tensors.metadata()["tally"])
                if [Setting(*each) for each in rest["settings"]] != settings:
                    return None
                arrays = {name: tensors.get_tensor(name) for name in tensors.keys()}
            tally.done = set(arrays["done"].tolist())
            tally.scores = dict(zip(arrays["rows"].tolist(), arrays["scores"], strict=True))
            for index, setting in enumerate(settings):
                tally.pixels[setting].add_state(unpack(arrays[f"pixels.{index}"]))
            tally.showcase.update(
                [Shown(score, row, label, arrays[f"map.{row}"]) for score, row, label in rest["shown"]]
            )
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise ValueError(f"{file} is no progress of this evaluation ({error}): remove it.") from error
        tally.failures = {int(row): line for row, line in rest["failures"].items()}
        tally.seconds, tally.encoder_seconds = rest["seconds"], rest["encoder_seconds"]
        return tally


def pack(state: dict[str, np.ndarray]) -> np.ndarray:
    """Counts of pixels as bytes, a tenth of their size: most are small, and the bins stand close together."""
    columns = {"bins": np.diff(state["bins"], prepend=0), **{str(n): each for n, each in enumerate(state["counts"])}}
    buffer = BytesIO()
    smaller: dict = {name: smallest(column) for name, column in columns.items()}
    np.savez_compressed(buffer, **smaller)
    return np.frombuffer(buffer.getvalue(), np.uint8)


def smallest(column: np.ndarray) -> np.ndarray:
    return column.astype(np.min_scalar_type(int(column.max(initial=0))))


def unpack(packed: np.ndarray) -> dict[str, np.ndarray]:
    """What [`pack`] packed."""
    with np.load(BytesIO(packed.tobytes()), allow_pickle=False) as columns:
        bins = np.cumsum(columns["bins"].astype(np.int64))
        counts = [columns[str(number)].astype(np.int64) for number in range(len(columns.files) - 1)]
    return {"bins": bins, "counts": np.stack(counts)}
