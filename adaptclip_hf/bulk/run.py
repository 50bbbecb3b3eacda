"""A run over any number of images, on Ray or in this process; stopped anywhere, it goes on from there."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tqdm.auto import tqdm

from ..detection.run import scoring_settings
from ..engine import AnomalyDetector
from ..engine.ahead import Ahead
from ..run_settings import as_json, difference
from .places import Place, read_settings
from .plan import PARTS, PLAN, Plan, make_plan
from .work import Job, read_photos, rows_of, score_photos, write_part

SETTINGS_FILE = "_detect.json"  # whoever reads the folder as one table passes over names that begin so
READ_AHEAD = 8  # photos


@dataclass
class BulkSummary:
    """What a run came to.

    Attributes:
        images, failed, anomalous: of this call; `failed` could not be read and have a row with their error.
        before: how many images had a row already.
        seconds: of the whole run.
    """

    before: int = 0
    images: int = 0
    failed: int = 0
    anomalous: int = 0
    seconds: float = 0.0

    def add(self, counts: dict[str, int]):
        for name, count in counts.items():
            setattr(self, name, getattr(self, name) + count)

    def describe(self) -> str:
        rate = self.images / self.seconds if self.seconds else 0.0
        line = f"{self.images} images in {self.seconds:.1f} s ({rate:.1f} images/s), {self.before} scored before"
        return f"{line}: {self.anomalous} anomalous, {self.failed} could not be read"


def run_bulk(
    inputs: list[str],
    output: str,
    job: Job,
    detector: AnomalyDetector,
    ray: bool,
    actors: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> BulkSummary:
    """Scores images of any place into `output/part-*.parquet`.

    Args:
        inputs: folders, images and lists (text, CSV or Parquet with a column `path`), here or at an address that fsspec
            knows.
        output: a folder, likewise.
        detector: of the job, which describes what the rows are of and scores where Ray does not.
        ray: on Ray, see [`adaptclip_hf.ray`]; otherwise in this process.
        actors: processes that score, on Ray; by default one a GPU, or one a core.
        overwrite: begin anew where `output` holds other results.

    Raises:
        FileNotFoundError, ValueError: an input that is not there, or results of other settings in `output`.
    """
    start, place = time.perf_counter(), Place(output)
    begin(place, settings_of(job, detector), overwrite)
    if ray:
        from ..ray import plan_on_ray, work_on_ray

        plan = plan_on_ray(inputs, output)
        done = work_on_ray(plan, job, actors)
    else:
        plan = make_plan(inputs, output)
        done = work_here(plan, job, detector)
    summary = BulkSummary(before=plan.before)
    total = plan.before + plan.images
    with tqdm(total=total, initial=plan.before, unit="image", disable=not progress) as bar:
        for counts in done:
            summary.add(counts)
            bar.update(counts["images"])
    place.file(PLAN).remove()
    summary.seconds = time.perf_counter() - start
    return summary


def work_here(plan: Plan, job: Job, detector: AnomalyDetector) -> Iterator[dict[str, int]]:
    """Does the work of a plan in this process, a thread reading ahead."""
    reference = job.reference(detector)
    for number in range(plan.chunks):
        paths = plan.paths(number)
        photos = Ahead(read_photos(detector, paths, reference.view), READ_AHEAD)
        results = (result for photo in photos for result in score_photos(detector, [photo], reference, job.batch_size))
        yield write_part(rows_of(paths, results, job), plan.output)


def settings_of(job: Job, detector: AnomalyDetector) -> dict:
    """All that rows depend on beside the image."""
    about = scoring_settings(detector, job.prompt_bank, job.object_name, job.threshold, job.profile, job.view)
    return as_json(about | {"maps": job.maps})


def begin(output: Place, settings: dict, overwrite: bool):
    """Notes the settings, or checks that what is there has the same.

    Raises:
        ValueError: names what differs.
    """
    file = output.file(SETTINGS_FILE)
    parts = output.names(PARTS)
    if overwrite:
        for name in parts:
            output.file(name).remove()
    found = None if overwrite else read_settings(file)
    if found is None and parts and not overwrite:
        raise ValueError(f"{output.address} holds results without a {SETTINGS_FILE}: name another --output.")
    if found is None:
        file.write(json.dumps(settings, indent=1).encode())
    elif differing := difference(found, settings):
        raise ValueError(
            f"{output.address} holds another run, which differs in {differing}: name another --output, or replace it "
            "with --overwrite."
        )
