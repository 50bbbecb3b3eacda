"""A whole evaluation: data sets, category by category, to results on disk."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm

from ..detector import AnomalyDetector
from ..files import file_name, inside
from ..reporting import print_line, print_nothing
from .category_counts import CategoryCounts
from .category_record import make_record, shown_setting
from .data_sets import EvaluatedDataSet, load_data_sets, too_many_shots
from .model_scoring import ModelScorer
from .pictures import draw_showcase
from .plots import can_plot, draw_curves
from .progress import ADVICE, Progress
from .protocol import EvaluatedCategory, Setting, settings_of
from .results import RESULT_FILES, collect, write_results
from .saved_maps import MapScorer, SavedMaps, save_maps, save_scores
from .scoring import CategoryScorer, one_thread_each

MAPS = "maps"
SAVE_EVERY = 60.0
# at most this share of the working time goes into saving
SAVING_SHARE = 0.02
NO_PLOTS = "no curves are drawn: they need matplotlib (`pip install adaptclip-hf[plots]`)"


@dataclass(frozen=True)
class EvaluationOptions:
    """Further keywords of [`evaluate`].

    Attributes:
        model_name: what the results call the model.
        map_size: side to which maps (bilinear) and masks (nearest) are reduced before they are compared; by default
            they are compared as they are, except for Real-IAD, whose published figures are of reduced maps.
        keep_maps: also write every map to `output/maps`, where it can be evaluated as a saved map.
        overwrite: start again if `output` holds another evaluation.
    """

    model_name: str | None = None
    map_size: int | None = None
    keep_maps: bool = False
    overwrite: bool = False


def evaluate(
    scored: AnomalyDetector | SavedMaps,
    data: Sequence[str],
    output: str | Path,
    shots: Sequence[int] = (0, 1, 2, 4),
    seeds: Sequence[int] = (10, 20, 30),
    batch_size: int = 4,
    progress: bool = True,
    **options,
) -> dict:
    """Evaluates a model, or saved maps, as the paper does (reference, "Evaluation protocol") and writes the results.

    Called again with the same arguments it continues where it stopped; more data sets, shots or seeds are added to
    what is there. Processes of one launcher share the work; they need a common `output`.

    Args:
        scored: a detector on the device to use; or the maps of another program, which belong to one number of shots and
            one seed.
        data: specs of [`load_data_set`].
        output: folder for results.json, results.csv, results.md, scores.csv, prompts.json, model-index.yml and plots.
        shots, seeds: with 0 shots, which is zero-shot, only the first seed is used.
        batch_size: images at a time; the last bits of scores depend on it.
        progress: show a progress bar, and print what is missing.
        options: fields of [`EvaluationOptions`]: `model_name`, `map_size`, `keep_maps`, `overwrite`.

    Returns:
        `dict`: the content of results.json.

    Raises:
        FileNotFoundError, ValueError: name the folder, field or argument and what was expected.
    """
    chosen = EvaluationOptions(**options)
    if not data or not shots or not seeds:
        raise ValueError("Expected at least one data set, number of shots and seed.")
    if isinstance(scored, SavedMaps):
        if len(shots) > 1 or len(seeds) > 1:
            raise ValueError("Saved maps belong to one number of shots and one seed: expected one of each.")
        batch_size = 1  # maps may differ in size
    output, start = Path(output), time.perf_counter()
    state, report = PartialState(cpu=scored.device.type == "cpu"), print_line if progress else print_nothing
    work, settings, described = Progress(output / "progress"), settings_of(shots, seeds), scored.describe()
    if state.is_main_process:
        if chosen.overwrite and work.is_begun():
            shutil.rmtree(work.folder, ignore_errors=True)
        elif not work.is_begun() and not chosen.overwrite:
            require_no_results(output)
        begun = {"batch_size": batch_size, "map_size": chosen.map_size, "keep_maps": chosen.keep_maps}
        work.begin(described | {name: value for name, value in begun.items() if value})
    state.wait_for_everyone()
    data_sets = load_data_sets(data, work.data_sets(), report)
    require_normals(data_sets, settings)
    if chosen.keep_maps:
        require_own_files(data_sets, scored, inside(output, MAPS))
    state.wait_for_everyone()
    if state.is_main_process:
        work.add_data_sets([each.record() for each in data_sets])
    state.wait_for_everyone()
    for line in (*too_many_shots(data_sets, max(shots)), *([] if can_plot() else [NO_PLOTS])):
        report(f"! {line}")
    run = EvaluationRun(work, output, batch_size, chosen.keep_maps, progress)
    with one_thread_each(scored.device) as workers:
        for data_set in data_sets:
            map_size = chosen.map_size or data_set.map_size
            for category in data_set.categories:
                # decided by one process: the others may see a record that it has just written
                [unfinished] = broadcast_object_list([work.unfinished(category, settings)])
                if unfinished:
                    left = [Setting(*each) for each in unfinished]
                    run.evaluate_category(scorer_of(scored, category, left, workers, map_size))
    records = work.records()
    model = {"name": chosen.model_name, **described}
    results = collect(model, batch_size, work.data_sets(), records, time.perf_counter() - start)
    if state.is_main_process:
        write_results(results, records, output)
        if chosen.keep_maps:
            save_scores(records, output / MAPS)
    state.wait_for_everyone()
    return results


def require_no_results(output: Path):
    """
    Raises:
        ValueError: files of this name are there, and no evaluation of ours began here.
    """
    found = [name for name in RESULT_FILES if (output / name).exists()]
    if found:
        raise ValueError(f"{output / found[0]} is there, and not of an evaluation that could go on: {ADVICE}.")


def require_own_files(data_sets: list[EvaluatedDataSet], scored: AnomalyDetector | SavedMaps, folder: Path):
    """
    Raises:
        ValueError: the map of an image would replace that of another, or one that is read.
    """
    if isinstance(scored, SavedMaps) and scored.folder.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"The maps of {scored.folder} would be replaced: name another --output.")
    for category in (each for data_set in data_sets for each in data_set.categories):
        taken: dict[Path, Path] = {}
        for below in filter(None, (category.path_below(row) for rows in category.queries.values() for row in rows)):
            if (other := taken.setdefault(below.with_suffix(""), below)) != below:
                raise ValueError(f"{category.root}: the maps of {other} and {below} would be one file: rename one.")


def require_normals(data_sets: list[EvaluatedDataSet], settings: Sequence[Setting]):
    """
    Raises:
        ValueError: all settings need normal images, and there are none.
    """
    categories = [category for data_set in data_sets for category in data_set.categories]
    if all(setting.shots for setting in settings) and all(each.views_without_normals() for each in categories):
        names = ", ".join(data_set.spec for data_set in data_sets)
        raise ValueError(
            f"{names} has no normal training image to compare with: evaluate with --shots 0, or add some (as "
            "CATEGORY/train/good)."
        )


def scorer_of(
    scored: AnomalyDetector | SavedMaps,
    category: EvaluatedCategory,
    settings: list[Setting],
    workers: int,
    map_size: int | None,
) -> CategoryScorer:
    """The source of a category's scores."""
    if isinstance(scored, SavedMaps):
        return MapScorer(scored, category, settings, workers, map_size)
    return ModelScorer(scored, category, settings, workers, map_size)


@dataclass(frozen=True)
class EvaluationRun:
    """What all categories of a run share."""

    work: Progress
    output: Path
    batch_size: int
    keep_maps: bool
    progress: bool

    def evaluate_category(self, scorer: CategoryScorer):
        """Scores what is left of a category, each process its share; the main process writes the record."""
        work, state, category, start = self.work, PartialState(), scorer.category, time.perf_counter()
        shown = shown_setting(scorer.settings)
        before = work.counts(category, scorer.settings, shown)
        left = {
            number: rows for number, rows in enumerate(category.batches(self.batch_size)) if number not in before.done
        }
        state.wait_for_everyone()
        if state.is_main_process:
            work.keep(category, before)
        state.wait_for_everyone()

        counts = before if state.is_main_process else CategoryCounts(scorer.settings, shown)
        counts.encoder_seconds += scorer.encoder_seconds
        counts.seconds += scorer.encoder_seconds
        share = {number: left[number] for number in list(left)[state.process_index :: state.num_processes]}
        self.score_share(scorer, counts, share)
        state.wait_for_everyone()
        if state.is_main_process:
            merged = work.counts(category, scorer.settings, shown)
            record = make_record(scorer, merged)
            record["time"] = {
                "wall_seconds": time.perf_counter() - start,
                "thread_seconds": merged.seconds,
                "encoder_seconds": merged.encoder_seconds,
            }
            self.draw(scorer, record, merged)
            work.finish(category, record)
            for line in (*record["notes"], *(f"{each['image']}: {each['error']}" for each in record["failures"])):
                if self.progress:
                    print_line(f"! {category.data_set}/{category.name}: {line}")
        state.wait_for_everyone()

    def score_share(self, scorer: CategoryScorer, counts: CategoryCounts, batches: dict[int, list[int]]):
        """Scores batches into the counts, which are saved every minute, at the end and when the run is stopped."""
        category, state = scorer.category, PartialState()
        file = self.work.counts_file(category, state.process_index)
        saved, wait = time.perf_counter(), SAVE_EVERY
        try:
            with tqdm(
                total=sum(map(len, batches.values())),
                desc=f"{category.data_set}/{category.name}",
                unit="image",
                disable=not (self.progress and state.is_main_process),
            ) as bar:
                for number, batch in scorer.score(batches):
                    if self.keep_maps:
                        save_maps(batch, category, self.output / MAPS)
                    counts.add(number, batch, category)
                    bar.update(len(batches[number]))
                    if (begun := time.perf_counter()) - saved >= wait:
                        counts.save(file)
                        saved = time.perf_counter()
                        wait = max(SAVE_EVERY, (saved - begun) / SAVING_SHARE)
        finally:
            counts.save(file)

    def draw(self, scorer: CategoryScorer, record: dict, counts: CategoryCounts):
        """Draws a category's curves and examples; settings that are added later get pictures of their own."""
        category, name = scorer.category, file_name(scorer.category.name)
        if self.work.record(category.data_set, category.name) is not None:
            name += "_" + "_".join(f"{shots}-shot" for shots in dict.fromkeys(each.shots for each in scorer.asked))
        folder = inside(self.output, Path("plots", file_name(category.data_set)))
        draw_curves(record, counts, folder / f"{name}_curves.png")
        draw_showcase(category, counts.showcase, str(counts.shown_setting), folder / f"{name}_examples.jpg")
