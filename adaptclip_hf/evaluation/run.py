"""A whole evaluation: data sets, category by category, to results on disk."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import PartialState
from tqdm.auto import tqdm

from ..data import load_data_set
from ..data.specs import HUB, resolve_spec
from ..modeling import AdaptCLIPModel
from ..modeling.fingerprint import weights_digest
from ..processing import AdaptCLIPProcessor
from .pictures import draw_showcase
from .plots import draw_curves
from .progress import Progress
from .protocol import Category, settings_of, split_categories
from .published import published_name
from .record import make_record, shown_setting
from .results import collect, write_results
from .scoring import CategoryScorer, one_thread_each
from .tally import CategoryTally

SAVE_EVERY = 60.0
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
    model: AdaptCLIPModel,
    processor: AdaptCLIPProcessor,
    data: Sequence[str],
    output: str | Path,
    shots: Sequence[int] = (0, 1, 2, 4),
    seeds: Sequence[int] = (10, 20, 30),
    batch_size: int = 4,
    model_name: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> dict:
    """Evaluates a model as the paper does (reference, "Evaluation protocol") and writes the results.

    Started again with the same arguments it goes on where it stopped. Processes of one launcher share the work; they
    need a common `output`.

    Args:
        model, processor: on the device to use.
        data: specs of [`load_data_set`].
        output: folder for results.json, results.csv, results.md, scores.csv, prompts.json, model-index.yml and plots.
        shots, seeds: 0 is zero-shot, which has the first seed alone.
        batch_size: images at a time; the last bits of scores depend on it.
        model_name: what the results call the model.
        overwrite: begin anew where `output` holds another evaluation.

    Returns:
        `dict`: the content of results.json.

    Raises:
        FileNotFoundError, ValueError: name the folder, field or argument and what was expected.
    """
    if not data or not shots or not seeds:
        raise ValueError("Expected at least one data set, number of shots and seed.")
    if model.prompt_query_adapter is None and any(shots):
        raise ValueError("This model has no prompt-query adapter and cannot compare with normal images: --shots 0.")
    output, state, start = Path(output), PartialState(cpu=model.device.type == "cpu"), time.perf_counter()
    say = make_say(state, progress)
    model.eval()
    data_sets, categories = load_data_sets(data, say)
    settings = settings_of(shots, seeds)
    header = {
        "model": {"name": model_name, **describe_model(model, processor)},
        "protocol": {"shots": sorted(set(shots)), "seeds": list(dict.fromkeys(seeds)), "batch_size": batch_size},
        "data_sets": [asdict(each) for each in data_sets],
    }
    work = Progress(output / "progress")
    if state.is_main_process:
        if overwrite:
            shutil.rmtree(work.folder, ignore_errors=True)
        work.begin(identity(header))
    state.wait_for_everyone()
    with one_thread_each(model.device) as workers:
        for data_set in data_sets:
            for category in (each for each in categories if each.data_set == data_set.name):
                if work.record(category) is None:
                    work_on = CategoryScorer(model, processor, category, settings, workers, data_set.map_size)
                    evaluate_category(work_on, work, batch_size, output, Path(data_set.root), say, progress)
    records = [work.record(category) for category in categories]
    results = collect(header, records, time.perf_counter() - start)
    if state.is_main_process:
        write_results(results, records, output)
    state.wait_for_everyone()
    return results


def evaluate_category(
    scorer: CategoryScorer, work: Progress, batch_size: int, output: Path, root: Path, say, progress: bool
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
    score_share(
        scorer, tally, share, work.tally_file(category, state.process_index), progress and state.is_main_process
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
        folder = output / "plots" / category.data_set
        draw_curves(record, merged, folder / f"{category.name}_curves.png")
        draw_showcase(category, merged.showcase, str(shown), folder / f"{category.name}_examples.jpg")
        work.finish(category, record)
        for line in (*record["notes"], *(f"{each['image']}: {each['error']}" for each in record["failures"])):
            say(f"! {category.data_set}/{category.name}: {line}")
    state.wait_for_everyone()


def score_share(
    scorer: CategoryScorer, tally: CategoryTally, batches: dict[int, list[int]], file: Path, progress: bool
):
    """Scores batches into the tally, which is kept on disk every minute, at the end and when the run is stopped."""
    category, saved = scorer.category, time.perf_counter()
    try:
        with tqdm(
            total=sum(map(len, batches.values())),
            desc=f"{category.data_set}/{category.name}",
            unit="image",
            disable=not progress,
        ) as bar:
            for number, batch in scorer.score(batches):
                tally.add(number, batch, category)
                bar.update(len(batches[number]))
                if time.perf_counter() - saved >= SAVE_EVERY:
                    tally.save(file)
                    saved = time.perf_counter()
    finally:
        tally.save(file)


def make_say(state: PartialState, progress: bool):
    def say(line: str):
        if state.is_main_process and progress:
            tqdm.write(line)

    return say


def load_data_sets(specs: Sequence[str], say) -> tuple[list[DataSet], list[Category]]:
    """Every data set under a name of its own, and all their categories."""
    data_sets, categories = [], []
    for spec in specs:
        layout, root = resolve_spec(spec)
        rows = load_data_set(spec, lambda line: say(f"! {line}"))
        name = unique_name(root, [each.name for each in data_sets])
        found = split_categories(name, rows)
        if not found:
            raise ValueError(f"{spec} has no test image: there is nothing to evaluate.")
        names = [each.name for each in found]
        published = published_name(layout, names)
        listing = digest_of(found, "" if layout == HUB else root)
        data_sets.append(DataSet(name, str(spec), layout, root, published, MAP_SIZES.get(layout), names, listing))
        categories += found
    return data_sets, categories


def unique_name(root: str, taken: list[str]) -> str:
    """The folder's name, with as many of its parents' as set it apart, and a number if all fails."""
    parts = Path(root).parts
    names = ["_".join(parts[-count:]).strip("/") for count in range(1, len(parts) + 1)]
    names += [f"{names[0]}-{number}" for number in range(2, len(taken) + 3)]
    return next(name for name in names if name not in taken)


def digest_of(categories: list[Category], root: str) -> str:
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


def describe_model(model: AdaptCLIPModel, processor: AdaptCLIPProcessor) -> dict:
    config = model.config
    return {
        "weights": weights_digest(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "image_size": config.image_size,
        "object_name": config.object_name,
        "score_fusion": config.score_fusion,
        "feature_layers": list(config.feature_layers),
        "fingerprint": model.fingerprint(),
        "preprocessing": processor.image_processor.fingerprint(),
    }


def identity(header: dict) -> dict:
    """What must be the same for a run to go on: not the model's name nor where the data lie."""
    model = {name: value for name, value in header["model"].items() if name != "name"}
    data_sets = [[each["name"], each["map_size"], each["listing"]] for each in header["data_sets"]]
    return {"model": model, **header["protocol"], "data_sets": data_sets}
