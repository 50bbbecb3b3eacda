"""The run behind `adaptclip detect`: many images, one line each as it goes, a broken file reported and passed over."""

import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from .image_files import unique_names
from .pipeline import AnomalyDetectionPipeline
from .processing.image_loading import load_image

RESULTS_FILE = "results.jsonl"
HEATMAP_FOLDER = "heatmaps"


@dataclass
class DetectionSummary:
    """What a run came to.

    Attributes:
        results: the lines of `results.jsonl`, in the order of the images.
        failures: (path, reason) of each file that could not be read.
        seconds: of the whole run.
    """

    results: list[dict] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    seconds: float = 0.0

    def describe(self, most: int = 10) -> str:
        """A few lines for people: how many, how fast, the highest scores, what failed."""
        per_image = self.seconds / max(1, len(self.results))
        lines = [f"{len(self.results)} images in {self.seconds:.1f} s ({per_image:.2f} s an image)"]
        labels = [result["label"] for result in self.results]
        if any(labels):
            lines[0] += f": {labels.count('anomalous')} anomalous, {labels.count('normal')} normal"
        ranked = sorted(self.results, key=lambda result: -result["score"])
        if ranked:
            lines.append("highest scores:" if len(ranked) > most else "scores:")
            lines += [
                f"  {result['score']:.4f}  {result['label'] or '':9}  {result['path']}" for result in ranked[:most]
            ]
        if len(ranked) > most:
            lines.append(f"  ... {len(ranked) - most} more, down to {ranked[-1]['score']:.4f}")
        if self.failures:
            lines.append(
                f"{len(self.failures)} files could not be read: " + ", ".join(str(path) for path, _ in self.failures)
            )
        return "\n".join(lines)


def detect_files(
    pipeline: AnomalyDetectionPipeline,
    paths: list[Path],
    output: Path,
    batch_size: int = 1,
    heatmaps: bool = True,
    progress: bool = True,
    **parameters,
) -> DetectionSummary:
    """Scores files into `output/results.jsonl` (a line an image, flushed as it goes) and `output/heatmaps/*.png`.

    Args:
        parameters: of the pipeline's call (`prompt_bank`, `threshold`).
    """
    output.mkdir(parents=True, exist_ok=True)
    if heatmaps:
        (output / HEATMAP_FOLDER).mkdir(exist_ok=True)
    summary, start = DetectionSummary(), time.perf_counter()
    names = dict(zip(paths, unique_names(paths), strict=True))
    waiting: deque[Path] = deque()

    def readable_images() -> Iterator[Image.Image]:
        for path in paths:
            try:
                image = load_image(path)
            except (OSError, ValueError) as error:
                summary.failures.append((path, str(error)))
                tqdm.write(f"not read: {error}")
                bar.update()
                continue
            waiting.append(path)
            yield image

    with (
        tqdm(total=len(paths), unit="image", disable=not progress) as bar,
        (output / RESULTS_FILE).open("w", encoding="utf-8") as lines,
    ):
        for result in pipeline(readable_images(), batch_size=batch_size, **parameters):
            path = waiting.popleft()
            line = {"path": str(path), "score": result["score"], "label": result["label"], "heatmap": None}
            if heatmaps:
                file = output / HEATMAP_FOLDER / f"{names[path]}.png"
                result["heatmap"].save(file)
                line["heatmap"] = str(file)
            lines.write(json.dumps(line) + "\n")
            lines.flush()
            summary.results.append(line)
            bar.update()
    summary.seconds = time.perf_counter() - start
    return summary
