"""What a photo costs with a profile, stage by stage, beside the model's time.

    python benchmarks/stages.py --profile PROFILE photos/

Photos are scored one after the other in this process, in the steps of `adaptclip detect`. For each stage the median
over the photos is printed: milliseconds on the clock, milliseconds of processors (which other programs disturb less),
and the latter as a share of the model's, which is the encoder and the comparison. `detect` reads ahead in a thread, so
that a run of it takes less than the sum.
"""

import argparse
import io
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.engine import images, scorer, scoring
from adaptclip_hf.engine.heatmap import save_drawn
from adaptclip_hf.image_files import find_images
from adaptclip_hf.runs.rows import row_of
from adaptclip_hf.runs.sources import Source
from adaptclip_hf.runs.spec import RunSpec
from adaptclip_hf.runs.store_lines import LineStore

BEFORE = ("reading", "pixel values")
MODEL = ("encoder", "comparison")
AFTER = ("appearance", "decision and regions", "row")
PICTURES = ("heatmap drawn", "heatmap as PNG")
# what the engine calls, and the stage that it belongs to
CALLED = (
    (images.ImageReader, "load", "reading"),
    (images.ImageReader, "pixel_values", "pixel values"),
    (scoring, "encode", "encoder"),
    (scorer, "compare", "comparison"),
    (scorer, "appearance_of", "appearance"),
    (scorer, "nearest_image", "appearance"),
    (scorer, "join", "decision and regions"),
)


class Stages:
    """Seconds of each stage of each photo, on the clock and of processors."""

    def __init__(self):
        self.photos: list[dict[str, tuple[float, float]]] = []

    def begin(self):
        self.photos.append(defaultdict(lambda: (0.0, 0.0)))

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = clocks()
        yield
        spent = (now - then for now, then in zip(clocks(), start, strict=True))
        before = self.photos[-1][name]
        self.photos[-1][name] = tuple(some + more for some, more in zip(before, spent, strict=True))

    def of(self, *names: str) -> tuple[float, float]:
        """Median milliseconds of some stages together."""
        return tuple(
            1000 * median(sum(each[name][clock] for name in names) for each in self.photos) for clock in (0, 1)
        )

    def watch(self):
        """Counts what the engine does from now on."""
        for owner, name, stage in CALLED:
            setattr(owner, name, self._timed(getattr(owner, name), stage))

    def _timed(self, function: Callable, stage: str) -> Callable:
        def timed(*values, **named):
            with self(stage):
                return function(*values, **named)

        return timed


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--repeat", type=int, default=2, help="how often all photos are scored (%(default)s)")
    args = parser.parse_args()
    profile = InspectionProfile.from_pretrained(args.profile)
    detector = AnomalyDetector.from_pretrained(profile.model, device="cpu")
    photos, stages = [str(path) for path in find_images(args.photos)], Stages()
    stages.watch()
    with tempfile.TemporaryDirectory() as folder:
        store = LineStore(Path(folder), RunSpec(profile.model, profile, "cpu"))
        once = score(detector, profile, store, photos, stages)
        stages.photos.clear()  # the first time pays for what is done once
        for _ in range(args.repeat):
            score(detector, profile, store, photos, stages)
    labels, regions = Counter(each.label for each in once), sum(len(each.regions) for each in once)
    print(f"{len(photos)} photos, {dict(labels)}, {regions} regions; {torch.get_num_threads()} threads")
    lines = [(name, (name,)) for name in (*BEFORE, *MODEL, *AFTER, *PICTURES)]
    lines += [("model", MODEL), ("after the model", AFTER), ("  with the heatmap", AFTER + PICTURES)]
    lines += [("all", BEFORE + MODEL + AFTER + PICTURES)]
    _, of_model = stages.of(*MODEL)
    print(f"{'':22} {'clock, ms':>10} {'processors':>10} {'of the model':>13}")
    for name, stage in lines:
        wall, processors = stages.of(*stage)
        print(f"{name:22} {wall:10.1f} {processors:10.1f} {processors / of_model:12.1%}")


def score(detector: AnomalyDetector, profile: InspectionProfile, store: LineStore, photos: list[str], stages: Stages):
    """The results of photos, one after the other, in the steps of a run."""
    prepared, results = detector.prepare(profile), []
    for path in photos:
        stages.begin()
        [image] = detector.reader.read_ready([path], profile.view)
        [result] = detector.score_images([(image, prepared)])
        with stages("row"):
            source = Source(path)
            store.add(row_of(path, source.whole_stamp(), result), result)
        with stages("heatmap drawn"):
            drawn = result.heatmap()
        with stages("heatmap as PNG"):
            save_drawn(drawn, io.BytesIO())
        results.append(result)
    return results


if __name__ == "__main__":
    main()
