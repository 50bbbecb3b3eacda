"""Images by the million on Ray Data: decoding in tasks, models in actors, rows as Parquet.

`pip install 'adaptclip-hf[ray]'`. [`Detect`] is what `ray.data.Dataset.map_batches` takes. `adaptclip detect --engine
ray` puts it together with reading, writing and going on after a stop.
"""

import logging
import os
from collections.abc import Generator, Iterable, Iterator
from functools import cache
from itertools import islice, repeat

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch

from .engine import AnomalyScorer, PlainReference, View
from .engine.images import ImageReader, LoadedImage, UnreadableImage
from .inspection import InspectionProfile
from .model_files import DEFAULT_NAME, is_exported, resolve_model
from .processing import AdaptCLIPProcessor
from .runs.executor import Executor, OnRow, Plan, make_plan, score_each
from .runs.rows import row_of
from .runs.sources import Source, read_sources
from .runs.spec import RunSpec
from .runs.stamps import UNKNOWN, Stamp
from .runs.store import Store
from .runs.store_parts import CHUNK, PartStore, with_map
from .runs.summary import RunSummary
from .runs.tables import BOOKKEEPING, part_schema, rows_of, table_of

WAVE = 16_384  # chunks that are one run of Ray Data, after which nothing of them is left in the driver
READ_AT_ONCE = 16  # images, after which they go to the actors
SMALL = 0.25  # CPUs that reading and writing ask for, beside the actors
PATH, IMAGE = "path", "image"
READ, SUMMARY = "read", "summary"


class Detect:
    """A callable for `map_batches`: batches of images in, their rows out; model and bank are loaded once an actor.

    Args:
        profile: an [`InspectionProfile`], its folder or Hub id, or
        spec: all that may be set, in its place; see [`adaptclip_hf.runs.spec.RunSpec`].
        model: name, folder or Hub id; the profile's by default.
        batch_size: images that the model takes at a time.
        threads: of torch, on a CPU.

    Example:

    ```python
    >>> import ray
    >>> from adaptclip_hf.ray import Detect

    >>> photos = ray.data.from_items([{"path": "a.png"}, {"path": "s3://line/b.png"}])  # doctest: +SKIP
    >>> photos.map_batches(Detect, fn_constructor_kwargs={"profile": "bottle"}, concurrency=2).show()  # doctest: +SKIP
    {'path': 'a.png', 'score': 0.31, 'p_value': 0.02, 'label': 'anomalous', 'regions': [...], ...}
    ```
    """

    def __init__(
        self,
        profile: InspectionProfile | str | None = None,
        model: str | None = None,
        batch_size: int = 1,
        threads: int | None = None,
        spec: RunSpec | None = None,
    ):
        if spec is None:
            if isinstance(profile, str):
                profile = InspectionProfile.from_pretrained(profile)
            name = model or (DEFAULT_NAME if profile is None else profile.model)
            dtype = None if profile is None or is_exported(name) else profile.torch_dtype
            spec = RunSpec(name, profile or PlainReference(), dtype=dtype, batch_size=batch_size)
        if threads is not None:
            torch.set_num_threads(threads)
        self.spec, self.scorer = spec, spec.scorer()
        self.reference = self.scorer.prepare(spec.reference)
        self.schema = part_schema(spec.maps)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """
        Args:
            batch: a column `path` of paths or addresses, and, where they have been read already, `image` (arrays
                (H, W, 3) or image files' bytes).

        Returns:
            `pyarrow.Table`: path, score, p_value, margin, label, regions, height, width, error, ...; a row an image.
        """
        reader, view = self.scorer.reader, self.spec.reference.view
        if IMAGE in batch:
            images = list(reader.read_ready(batch[IMAGE], view, on_error=pass_over))
        else:
            images = list(read_sources(reader, map(Source, map(str, batch[PATH])), view, pass_over))
        paths = map(str, batch[PATH]) if PATH in batch else [image.name for image in images]
        return self.table(zip(map(Source, paths), repeat(UNKNOWN), images)).drop_columns([*BOOKKEEPING])

    def table(self, read: Iterable[tuple[Source, Stamp, LoadedImage | UnreadableImage]]) -> pa.Table:
        """The rows of images that were read, each with where it came from and its stamp."""
        rows, read = [], iter(read)
        while batch := list(islice(read, self.spec.batch_size)):
            results = score_each(self.scorer, [(image, self.reference) for *_, image in batch], pass_over)
            for (source, stamp, _), result in zip(batch, results, strict=True):
                about = (self.spec.part_of(source), self.spec.profile, self.scorer.dtype)
                row = row_of(source.path, stamp, result, *about)
                rows.append(with_map(row, result, self.schema))
        return table_of(rows, self.schema)


class DetectRead(Detect):
    """[`Detect`] in the actors of [`OnRay`]: of images that tasks have read."""

    def __init__(self, spec, threads: int | None):
        super().__init__(spec=ray.get(spec) if isinstance(spec, ray.ObjectRef) else spec, threads=threads)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        return self.table(batch[READ])


class OnRay(Executor):
    """Tasks list and read, actors score, tasks write. When a worker dies, another repeats its unfinished work.

    Args:
        output: the folder of the [`PartStore`], which workers open by this address.
        actors: by default one a GPU of the cluster, or one a core.
    """

    def __init__(self, spec: RunSpec, scorer: AnomalyScorer, output: str, actors: int | None = None):
        self.spec, self.scorer, self.output, self.actors = spec, scorer, output, actors
        self.resources = start_ray()

    def plan(self, sources: Iterable[Source], store: Store) -> Plan:
        self.planner = ray.remote(Planner).options(num_cpus=0).remote(self.output, self.spec.maps)
        try:
            plan = ray.get(self.planner.plan.remote(sources))
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        self.chunks = -(-plan.waiting // CHUNK)
        return plan

    def work(self, store: Store, on_row: OnRow | None = None) -> Generator[RunSummary]:
        spec = ray.put(self.spec)
        threads, scoring, actors = self._shares()
        for first in range(0, self.chunks, WAVE):
            count = min(WAVE, self.chunks - first)
            numbers = ray.data.range(count, override_num_blocks=count)
            reading = [self.planner, first, self.spec.model, self.spec.reference.view]
            images = numbers.map_batches(read_chunk, batch_size=1, fn_args=reading, num_cpus=SMALL)
            rows = images.map_batches(
                DetectRead,
                batch_size=None,
                fn_constructor_args=[spec, threads],
                compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
                **scoring,
            )
            writing = {"fn_args": [self.output, self.spec.maps], "batch_format": "pyarrow", "num_cpus": SMALL}
            parts = rows.map_batches(write_rows, batch_size=None, **writing)
            for part in parts.iter_rows():
                yield part[SUMMARY]

    def _shares(self) -> tuple[int | None, dict[str, float], int]:
        """Threads of torch and resources for each actor, and how many actors."""
        gpus, cores = int(self.resources.get("GPU", 0)), max(1, int(self.resources["CPU"]) - 1)
        if gpus > 0 and self.spec.device in (None, "cuda"):
            return None, {"num_gpus": 1, "num_cpus": SMALL}, self.actors or gpus
        actors = self.actors or cores
        threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, cores // actors))
        return threads, {"num_cpus": threads}, actors


def start_ray() -> dict[str, float]:
    """Joins the cluster that RAY_ADDRESS names, or starts one here; returns what it has."""
    if not ray.is_initialized():
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        there = "RAY_ADDRESS" in os.environ
        here = {"num_cpus": len(os.sched_getaffinity(0)) + 1, "include_dashboard": False}  # one more for the tasks
        ray.init(**({} if there else here), log_to_driver=False, logging_level="WARNING")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
    return ray.cluster_resources()


class Planner:
    """An actor that knows what waits, so that no list of images is held in the driver or in memory."""

    def __init__(self, output: str, maps: bool):
        self.store = PartStore(output, maps)

    def plan(self, sources: Iterable[Source]) -> Plan:
        return make_plan(sources, self.store)

    def chunk(self, number: int) -> list[Source]:
        return self.store.index.waiting(number * CHUNK, CHUNK)


def read_chunk(
    batch: dict[str, np.ndarray], planner, first: int, model: str, view: View
) -> Iterator[dict[str, np.ndarray]]:
    """The images of chunks: decoded, cut and resized, some at a time."""
    for number in batch["id"].tolist():
        sources = iter(ray.get(planner.chunk.remote(first + number)))
        while some := list(islice(sources, READ_AT_ONCE)):
            stamps = [source.whole_stamp() for source in some]  # as they were when they were read
            images = read_sources(reader(model), some, view, pass_over)
            yield {READ: objects([tuple(each) for each in zip(some, stamps, images, strict=True)])}


@cache
def reader(model: str) -> ImageReader:
    """Reads images for a model, which is not loaded."""
    return ImageReader(AdaptCLIPProcessor.from_pretrained(resolve_model(model)).image_processor)


def objects(values: list) -> np.ndarray:
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def write_rows(table: pa.Table, output: str, maps: bool) -> dict[str, np.ndarray]:
    """Writes a part; its summary as a row."""
    PartStore(output, maps).write(table)
    return {SUMMARY: objects([RunSummary.of(rows_of(table))])}


def pass_over(name: str, error: Exception):
    """Called for an image that cannot be read, whose row has the error."""
