"""What a photo costs with a profile, stage by stage, beside the model's time.

    python benchmarks/stages.py --profile PROFILE photos/

Photos are scored one after the other in this process, in the steps of `adaptclip detect`. For each stage the median
over the photos is printed: milliseconds on the clock, milliseconds of processors (which other programs disturb less),
and the latter as a share of the model's, which is the encoder and the comparison. `detect` reads ahead in a thread and
writes heatmaps in another, so that a run of it takes less than the sum.
"""

import argparse
import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from adaptclip_hf import AnomalyDetector, InspectionProfile
from adaptclip_hf.engine import scoring
from adaptclip_hf.engine.appearance import appearance_of
from adaptclip_hf.engine.heatmap import save_drawn
from adaptclip_hf.engine.tiles import TileMerger
from adaptclip_hf.image_files import find_images
from adaptclip_hf.runs.rows import row_of
from adaptclip_hf.runs.sources import Source
from adaptclip_hf.runs.spec import RunSpec
from adaptclip_hf.runs.store_lines import LineStore

MODEL = ("encoder", "comparison")
BEFORE = ("reading", "pixel values")
AFTER = ("appearance", "decision and regions", "row")
PICTURES = ("heatmap drawn", "heatmap as PNG")


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
    prepared = detector.prepare(profile)
    photos = [str(path) for path in find_images(args.photos)]
    stages, labels, regions = Stages(), defaultdict(int), 0
    with tempfile.TemporaryDirectory() as folder:
        spec = RunSpec(profile.model, profile, "cpu", None, False, 1, False, False, None, (), None)
        store = LineStore(Path(folder), spec)
        score(detector, prepared, store, photos[:1], Stages())  # what is done once
        for number in range(args.repeat):
            for result in score(detector, prepared, store, photos, stages):
                labels[result.label] += not number
                regions += len(result.regions or ()) * (not number)
    print(f"{len(photos)} photos, {dict(labels)}, {regions} regions; {torch.get_num_threads()} threads")
    model = stages.of(*MODEL)
    lines = [(name, stages.of(name)) for name in (*BEFORE, *MODEL, *AFTER, *PICTURES)]
    lines += [
        ("model", model),
        ("after the model", stages.of(*AFTER)),
        ("  with the heatmap", stages.of(*AFTER, *PICTURES)),
        ("all", stages.of(*BEFORE, *MODEL, *AFTER, *PICTURES)),
    ]
    print(f"{'':22} {'clock, ms':>10} {'processors':>10} {'of the model':>13}")
    for name, (wall, processors) in lines:
        print(f"{name:22} {wall:10.1f} {processors:10.1f} {processors / model[1]:12.1%}")


def score(detector, prepared, store: LineStore, photos: list[str], stages: Stages) -> list:
    """The results of photos, in the steps of [`AnomalyScorer.score_images`] and of a run."""
    reader, model, results = detector.reader, detector.model, []
    for path in photos:
        stages.begin()
        with stages("reading"):
            image = reader.load(path, prepared.reference.view)
        merger = TileMerger(image.tiles)
        inputs = scoring.tile_inputs(reader, image)
        while True:
            with stages("pixel values"):
                tile = next(inputs, None)
            if tile is None:
                break
            with stages("encoder"):
                features = scoring.encode(model, tile.pixel_values)
            with stages("comparison"):
                [(value, model_map)] = scoring.compare(model, features, [tile.tile], [prepared])
            with stages("appearance"):
                merger.add(tile.tile.number, value, model_map)
                if prepared.reference.needs_appearance:
                    merger.see(appearance_of(detector.processor.image_processor, tile.pixel_values, features))
                if len(image.tiles) == 1:
                    merger.nearest = scoring.nearest_image(features, 0, prepared.prompt_bank)
        with stages("decision and regions"):
            result = scoring.join(model, merger, prepared, image.name, image.image)
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
