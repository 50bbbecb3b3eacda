"""The steps of a piece of work, wherever it is done: read, score, write."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ..detection.tables import table_of
from ..engine import AnomalyDetector, DetectionResult, View
from ..engine.heatmap import map_image
from ..engine.photo import Photo
from ..engine.reference import Reference
from ..inspection import InspectionProfile
from ..modeling.prompt_bank import PromptBank
from .places import Place, read_image
from .plan import as_parquet

MAP_PNG = "map_png"


@dataclass(frozen=True)
class Job:
    """What every worker needs to know; small, and sent to each once.

    Attributes:
        model: name, folder or Hub id; a folder must be there for every worker.
        profile, prompt_bank, object_name, threshold, view: as [`AnomalyDetector.stream`] takes them.
        device, dtype, trust_remote_code: of [`AnomalyDetector.from_pretrained`].
        batch_size: images at a time.
        maps: also keep each map, a 16-bit PNG of the image's own size (65535 is 1) in the column `map_png`.
    """

    model: str
    profile: InspectionProfile | None = None
    prompt_bank: PromptBank | None = None
    object_name: str | None = None
    threshold: float | None = None
    view: View | None = None
    device: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    batch_size: int = 1
    maps: bool = False

    def detector(self) -> AnomalyDetector:
        return AnomalyDetector.from_pretrained(
            self.model, device=self.device, dtype=self.dtype, trust_remote_code=self.trust_remote_code
        )

    def reference(self, detector: AnomalyDetector) -> Reference:
        others = (self.prompt_bank, self.object_name, None, self.threshold, self.profile, self.view)
        return detector.reference(*others)


def read_photos(detector: AnomalyDetector, paths: Iterable[str], view: View) -> Iterator[Photo]:
    """Photos of any place, read and resized; one that cannot be read has its error, and its path as its name."""
    for path in paths:
        try:
            [photo] = detector.read_ready([read_image(path)], view)
            yield photo
        except (OSError, ValueError) as error:
            yield Photo(path, error=str(error))


def score_photos(detector: AnomalyDetector, photos: list[Photo], reference: Reference, batch_size: int):
    """The results of photos, in their order."""
    for first in range(0, len(photos), batch_size):
        batch = [(photo, reference) for photo in photos[first : first + batch_size]]
        yield from detector.score_photos(batch, on_error=lambda name, error: None)


def rows_of(paths: Iterable[str], results: Iterable[DetectionResult], job: Job) -> pa.Table:
    """Results as rows, equal to those that `adaptclip detect --format parquet` writes."""
    lines, maps = [], []
    for path, result in zip(paths, results, strict=True):
        line = {name: getattr(result, name) for name in ("score", "p_value", "label", "regions", "size", "error")}
        lines.append({"path": path, **line, "among_normals": result.among_normals})
        maps.append(None if result.error is not None or not job.maps else map_png(result.anomaly_map))
    table = table_of(lines)
    return table.append_column(MAP_PNG, pa.array(maps, pa.binary())) if job.maps else table


def map_png(anomaly_map: np.ndarray) -> bytes:
    """(H, W) in [0, 1] as a 16-bit grey PNG."""
    content = io.BytesIO()
    map_image(anomaly_map).save(content, "PNG")
    return content.getvalue()


def write_part(rows: pa.Table, output: str) -> dict[str, int]:
    """Writes rows as one file whose name is of their paths, so that the same rows again are the same file; counts."""
    digest = hashlib.sha256("\n".join(rows["path"].to_pylist()).encode()).hexdigest()[:32]
    Place(output).file(f"part-{digest}.parquet").write(as_parquet(rows))
    failed, labels = len(rows) - rows["error"].null_count, rows["label"].to_pylist()
    return {"images": len(rows), "failed": failed, "anomalous": labels.count("anomalous")}
