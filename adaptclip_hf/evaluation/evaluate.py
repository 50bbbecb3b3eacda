"""A whole evaluation: data sets, category by category, to results on disk."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm

from ..data import load_data_set
from ..data.specs import HUB, resolve_spec, unique_name
from ..detector import AnomalyDetector
from ..files import file_name
from ..reporting import Report, print_line, print_nothing
from .category_record import make_record, shown_setting
from .model_scoring import ModelScorer
from .pictures import draw_showcase
from .plots import can_plot, draw_curves
from .progress import ADVICE, Progress
from .protocol import EvaluatedCategory, Setting, settings_of, split_categories
from .published import published_name
from .results import collect, write_results
from .saved_maps import MapScorer, SavedMaps, save_maps, save_scores
from .scoring import CategoryScorer, ScoredBatch, one_thread_each
from .tally import CategoryTally

MAPS = "maps"
SAVE_EVERY = 60.0
# of the working time at most this share goes into saving
SAVING_SHARE = 0.02
# the published figures of these layouts are of maps and masks reduced to this side
MAP_SIZES = {"real-iad": 256, "real-iad-variety": 256}


@dataclass
class DataSet:
    """A data set as it is evaluated; `listing` is a digest of its rows."""

    name: str
    spec: str
    layout: str
    root: str
    published_as: str | None
    map_size: int | None
    categories: list[str]
    listing: str


def evaluate(
    scored: AnomalyDetector | SavedMaps,
    data: Sequence[str],
    output: str | Path,
    shots: Sequence[int] = (0, 1, 2, 4),
    seeds: Sequence[int] = (10, 20, 30),
    batch_size: int = 4,
    model_name: str | None = None,
    map_size: int | None = None,
    keep_maps: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> dict:
    """Evaluates a model, or saved maps, as the paper does (reference, "Evaluation protocol") and writes the results.

    Started again with the same arguments it goes on where it stopped; with more data sets, shots or seeds it adds them
    to what is there. Processes of one launcher share the work; they need a common `output`.

    Args:
        scored: model and processor, on the device to use; or the maps of another program, which are of one number of
            shots and one seed.
        data: specs of [`load_data_set`].
        output: folder for results.json, results.csv, results.md, scores.csv, prompts.json, model-index.yml and plots.
        shots, seeds: 0 is zero-shot, which has the first seed alone.
        batch_size: images at a time; the last bits of scores depend on it.
        model_name: what the results call the model.
        map_size: side to which maps (bilinear) and masks (nearest) are reduced before they are compared; by default as
            they are, but what the published figures of Real-IAD are of.
        keep_maps: also write every map to `output/maps`, from where they can be evaluated as saved ones.
        overwrite: begin anew where `output` holds another evaluation.

    Returns:
        `dict`: the content of results.json.

    Raises:
        FileNotFoundError, ValueError: name the folder, field or argument and what was expected.
    """
    if not data or not shots or not seeds:
        raise ValueError("Expected at least one data set, number of shots and seed.")
    if isinstance(scored, SavedMaps):
        if len(shots) > 1 or len(seeds) > 1:
            raise ValueError("Saved maps are of one number of shots and one seed: expected one of each.")
        batch_size = 1  # they may differ in size
    output, start = Path(output), time.perf_counter()
    state = PartialState(cpu=scored.device.type == "cpu")
    report = print_line if progress else print_nothing
    work, settings, described = Progress(output / "progress"), settings_of(shots, seeds), scored.describe()
    if state.is_main_process:
        if overwrite:
            shutil.rmtree(work.folder, ignore_errors=True)
        asked = {"map_size": map_size, "keep_maps": keep_maps}
        work.begin(described | {"batch_size": batch_size} | {name: value for name, value in asked.items() if value})
    state.wait_for_everyone()
    data_sets, categories = load_data_sets(data, work.data_sets(), report)
    state.wait_for_everyone()
    if state.is_main_process:
        work.add_data_sets([asdict(each) for each in data_sets])
    state.wait_for_everyone()
    for line in (*many_shots(categories, shots), *missing_plots()):
        report(f"! {line}")
    with one_thread_each(scored.device) as workers:
        for data_set in data_sets:
            root = Path(data_set.root)
            for category in (each for each in categories if each.data_set == data_set.name):
                # decided by one process: the others may see a record that it has just written
                [unfinished] = broadcast_object_list([work.unfinished(category, settings)])
                if unfinished:
                    left, reduced = [Setting(*each) for each in unfinished], map_size or data_set.map_size
                    work_on = scorer_of(scored, category, left, workers, reduced, root)
                    evaluate_category(work_on, work, batch_size, output, root, report, progress, keep_maps)
    records = finished_records(work)
    results = collect(
        {"name": model_name, **described}, batch_size, work.data_sets(), records, time.perf_counter() - start
    )
    if state.is_main_process:
        write_results(results, records, output)
        if keep_maps:
            save_scores(records, output / MAPS)
    state.wait_for_everyone()
    return results


def scorer_of(
    scored: AnomalyDetector | SavedMaps,
    category: EvaluatedCategory,
    settings: list[Setting],
    workers: int,
    map_size: int | None,
    root: Path,
) -> CategoryScorer:
    """Where the scores of a category come from."""
    if isinstance(scored, SavedMaps):
        return MapScorer(scored, category, settings, workers, map_size, root)
    return ModelScorer(scored, category, settings, workers, map_size)


def finished_records(work: Progress) -> list[dict]:
    """Of all categories that any run finished."""
    places = [(each["name"], category) for each in work.data_sets() for category in each["categories"]]
    return [record for place in places if (record := work.record(*place)) is not None]


def many_shots(categories: list[EvaluatedCategory], shots: Sequence[int]) -> list[str]:
    """A line where more normal images are asked for than there are."""
    lines = []
    for category in categories:
        normals = min((len(rows) for rows in category.normals.values()), default=0)
        if 0 < normals < max(shots):
            lines.append(
                f"{category.data_set}/{category.name}: {max(shots)}-shot of {normals} normal images; they are drawn "
                "with replacement, so that some come several times"
            )
    return lines


def missing_plots() -> list[str]:
    if can_plot():
        return []
    return ["no curves are drawn: they need matplotlib (`pip install adaptclip-hf[plots]`)"]


def evaluate_category(
    scorer: CategoryScorer,
    work: Progress,
    batch_size: int,
    output: Path,
    root: Path,
    report: Report,
    progress: bool,
    keep_maps: bool,
):
    """Scores what is not done yet of a category, each process its share; the main one makes the record."""
    state, category, start = PartialState(), scorer.category, time.perf_counter()
    shown = shown_setting(scorer.settings)
    before = work.tally(category, scorer.settings, shown)
    batches = dict(enumerate(category.batches(batch_size)))
    left = {number: rows for number, rows in batches.items() if number not in before.done}
    state.wait_for_everyone()
    if state.is_main_process:
        work.keep(category, before)
    state.wait_for_everyone()

    tally = before if state.is_main_process else CategoryTally(scorer.settings, shown)
    tally.encoder_seconds += scorer.encoder_seconds
    tally.seconds += scorer.encoder_seconds
    share = {number: left[number] for number in list(left)[state.process_index :: state.num_processes]}
    keep = partial(save_maps, category=category, root=root, folder=output / MAPS) if keep_maps else None
    score_share(
        scorer, tally, share, work.tally_file(category, state.process_index), progress and state.is_main_process, keep
    )
    state.wait_for_everyone()
    if state.is_main_process:
        merged = work.tally(category, scorer.settings, shown)
        record = make_record(category, root, scorer, merged)
        record["time"] = {
            "wall_seconds": time.perf_counter() - start,
            "thread_seconds": merged.seconds,
            "encoder_seconds": merged.encoder_seconds,
        }
        draw(work, scorer, record, merged, output / "plots" / file_name(category.data_set))
        work.finish(category, record)
        for line in (*record["notes"], *(f"{each['image']}: {each['error']}" for each in record["failures"])):
            report(f"! {category.data_set}/{category.name}: {line}")
    state.wait_for_everyone()


def draw(work: Progress, scorer: CategoryScorer, record: dict, tally: CategoryTally, folder: Path):
    """Curves and examples of a category; those of settings that are added later beside the first ones."""
    category, name = scorer.category, file_name(scorer.category.name)
    if work.record(category.data_set, category.name) is not None:
        name += "_" + "_".join(f"{shots}-shot" for shots in dict.fromkeys(each.shots for each in scorer.asked))
    draw_curves(record, tally, folder / f"{name}_curves.png")
    draw_showcase(category, tally.showcase, str(tally.shown_setting), folder / f"{name}_examples.jpg")


def score_share(
    scorer: CategoryScorer,
    tally: CategoryTally,
    batches: dict[int, list[int]],
    file: Path,
    progress: bool,
    keep: Callable[[ScoredBatch], None] | None,
):
    """Scores batches into the tally, which is kept on disk every minute, at the end and when the run is stopped.

    Args:
        keep: what is done with each batch before it counts as done.
    """
    category, saved, wait = scorer.category, time.perf_counter(), SAVE_EVERY
    try:
        with tqdm(
            total=sum(map(len, batches.values())),
            desc=f"{category.data_set}/{category.name}",
            unit="image",
            disable=not progress,
        ) as bar:
            for number, batch in scorer.score(batches):
                if keep is not None:
                    keep(batch)
                tally.add(number, batch, category)
                bar.update(len(batches[number]))
                if (begun := time.perf_counter()) - saved >= wait:
                    tally.save(file)
                    saved = time.perf_counter()
                    wait = max(SAVE_EVERY, (saved - begun) / SAVING_SHARE)
    finally:
        tally.save(file)


def load_data_sets(
    specs: Sequence[str], known: list[dict], report: Report
) -> tuple[list[DataSet], list[EvaluatedCategory]]:
    """Every data set under a name of its own, and all their categories.

    Args:
        known: data sets that an earlier run was of; they keep their names.

    Raises:
        ValueError: a data set without test image, or one whose images are no longer those of the earlier run.
    """
    data_sets, categories = [], []
    for spec in specs:
        layout, root = resolve_spec(spec)
        rows = load_data_set(spec, lambda line: report(f"! {line}"))
        found = split_categories("", rows)
        if not found:
            raise ValueError(f"{spec} has no test image: there is nothing to evaluate.")
        listing = digest_of(found, "" if layout == HUB else root)
        taken = [each.name for each in data_sets]
        name = known_name(root, listing, [each for each in known if each["name"] not in taken])
        name = name or unique_name(root, [*taken, *(each["name"] for each in known)])
        names = [each.name for each in found]
        published = published_name(layout, names)
        data_sets.append(DataSet(name, str(spec), layout, root, published, MAP_SIZES.get(layout), names, listing))
        for each in found:
            each.data_set = name
        categories += found
    return data_sets, categories


def known_name(root: str, listing: str, known: list[dict]) -> str | None:
    """The name that an earlier run gave a data set; `None` for a new one.

    Raises:
        ValueError: at its place there are other images now.
    """
    for each in known:
        if each["root"] == root and each["listing"] != listing:
            raise ValueError(
                f"There is another evaluation, which differs in data_sets: {root} holds other images than when its "
                f"results were made; {ADVICE}."
            )
    same = [each for each in known if each["listing"] == listing]
    return next((each["name"] for each in sorted(same, key=lambda each: each["root"] != root)), None)


def digest_of(categories: list[EvaluatedCategory], root: str) -> str:
    """Of everything that is listed, so that a run does not go on with other images."""
    digest = hashlib.sha256()
    for category in categories:
        columns = category.rows.with_format("arrow")
        for name in ("image", "mask"):
            paths = [None if each is None else each["path"] for each in columns[name].to_pylist()]
            digest.update(json.dumps([path and path.removeprefix(root) for path in paths]).encode())
        for name in ("label", "split", "view", "sample_id"):
            digest.update(json.dumps(list(category.rows[name])).encode())
    return digest.hexdigest()
