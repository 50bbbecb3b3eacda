"""Images by the million on Ray Data: decoding in tasks, models in actors, rows as Parquet.

`pip install 'adaptclip-hf[ray]'`. [`Detect`] is what `ray.data.Dataset.map_batches` takes; `adaptclip detect --engine
ray` puts it together with reading, writing and going on after a stop.
"""

import logging
import os
from collections.abc import Iterator
from functools import cache
from itertools import islice

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch

from .bulk.plan import Plan, make_plan
from .bulk.work import Job, read_photos, rows_of, score_photos, write_part
from .engine import AnomalyDetector, View
from .inspection import InspectionProfile
from .model_files import DEFAULT_NAME, resolve_model
from .processing import AdaptCLIPProcessor

WAVE = 16_384  # chunks that are one run of Ray Data, after which nothing of them is left in the driver
READ_AT_ONCE = 16  # images, after which they go to the actors
SMALL = 0.25  # CPUs that reading and writing ask for, beside the actors
PATH, PHOTO, IMAGE = "path", "photo", "image"


class Detect:
    """A callable for `map_batches`: batches of images in, their rows out; model and bank are loaded once an actor.

    Args:
        profile: an [`InspectionProfile`], its folder or Hub id, or
        job: all that may be set, in its place; see [`adaptclip_hf.bulk.work.Job`].
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
        job: Job | None = None,
    ):
        if job is None:
            if isinstance(profile, str):
                profile = InspectionProfile.from_pretrained(profile)
            dtype = None if profile is None else profile.made_by["dtype"]
            name = model or (DEFAULT_NAME if profile is None else profile.model)
            job = Job(name, profile, dtype=dtype, batch_size=batch_size)
        if threads is not None:
            torch.set_num_threads(threads)
        self.job, self.detector = job, job.detector()
        self.reference = job.reference(self.detector)

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """
        Args:
            batch: a column `path` of paths or addresses, and, where they have been read already, `image` (arrays
                (H, W, 3) or image files' bytes).

        Returns:
            `pyarrow.Table`: path, score, p_value, label, regions, height, width, error, ...; a row an image, in order.
        """
        if PHOTO in batch:
            photos = list(batch[PHOTO])
        elif IMAGE in batch:
            photos = list(self.detector.read_ready(batch[IMAGE], self.reference.view, on_error=lambda *_: None))
        else:
            photos = list(read_photos(self.detector, map(str, batch[PATH]), self.reference.view))
        results = score_photos(self.detector, photos, self.reference, self.job.batch_size)
        paths = map(str, batch[PATH]) if PATH in batch else (photo.name for photo in photos)
        return rows_of(paths, results, self.job)


def plan_on_ray(inputs: list[str], output: str) -> Plan:
    """[`make_plan`] in a task, so that no list of images is held in the driver; raises what that does."""
    start_ray()
    try:
        return ray.get(ray.remote(make_plan).options(num_cpus=SMALL).remote(inputs, output))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def work_on_ray(plan: Plan, job: Job, actors: int | None = None) -> Iterator[dict[str, int]]:
    """Does the work of a plan: tasks read, actors score, tasks write; yields the counts of each file that is written.

    What a worker that died had in hand is done again by another one.

    Args:
        actors: by default one a GPU of the cluster, or one a core.
    """
    resources = start_ray()
    gpus, cores = int(resources.get("GPU", 0)), max(1, int(resources["CPU"]) - 1)
    on_gpu = gpus > 0 and job.device in (None, "cuda")
    actors = actors or (gpus if on_gpu else cores)
    threads = None if on_gpu else int(os.environ.get("OMP_NUM_THREADS") or max(1, cores // actors))
    scoring = {"num_gpus": 1, "num_cpus": SMALL} if on_gpu else {"num_cpus": threads}
    job = ray.put(job)
    for first in range(0, plan.chunks, WAVE):
        count = min(WAVE, plan.chunks - first)
        numbers = ray.data.range(count, override_num_blocks=count)
        photos = numbers.map_batches(read_chunk, batch_size=1, fn_args=[plan, first, job], num_cpus=SMALL)
        rows = photos.map_batches(
            DetectJob,
            batch_size=None,
            fn_constructor_args=[job, threads],
            compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
            **scoring,
        )
        parts = rows.map_batches(
            write_rows, batch_size=None, batch_format="pyarrow", fn_args=[plan.output], num_cpus=SMALL
        )
        yield from parts.iter_rows()


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


def read_chunk(batch: dict[str, np.ndarray], plan: Plan, first: int, job: Job) -> Iterator[dict[str, np.ndarray]]:
    """The images of chunks of a plan: decoded, cut and resized, some at a time."""
    job = ray.get(job) if isinstance(job, ray.ObjectRef) else job
    view = job.profile.view if job.profile else job.view or View()
    for number in batch["id"].tolist():
        paths = iter(plan.paths(first + number))
        while some := list(islice(paths, READ_AT_ONCE)):
            photos = np.empty(len(some), object)
            photos[:] = list(read_photos(reader(job.model), some, view))
            yield {PATH: np.array(some, object), PHOTO: photos}


@cache
def reader(model: str) -> AnomalyDetector:
    """What reads images for a model, which itself is not loaded."""
    return AnomalyDetector(None, AdaptCLIPProcessor.from_pretrained(resolve_model(model)))


class DetectJob(Detect):
    """[`Detect`] in the actors of [`work_on_ray`]."""

    def __init__(self, job, threads: int | None):
        super().__init__(job=ray.get(job) if isinstance(job, ray.ObjectRef) else job, threads=threads)


def write_rows(rows: pa.Table, output: str) -> dict[str, np.ndarray]:
    """Writes a part; its counts as a row."""
    return {name: np.array([count]) for name, count in write_part(rows, output).items()}
