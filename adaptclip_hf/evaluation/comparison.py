"""Results of several evaluations side by side, and which differences are more than chance."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..files import read_json
from .significance import AurocDifference, difference_of, tested_mean

RESAMPLES = 2000
IMAGE_AUROC = "image_auroc"

Case = tuple[str, str, int]  # (data set, category, shots)


@dataclass(frozen=True)
class Run:
    """An evaluation's results.

    Attributes:
        name: of its folder.
        figures: {(data set, category or None for the mean, shots, metric): mean over the seeds}, fractions.
        scores: {(data set, category, shots): {seed: {image: (label, score)}}}.
    """

    name: str
    figures: dict[tuple[str, str | None, int, str], float]
    scores: dict[Case, dict[int, dict[str, tuple[int, float]]]]


@dataclass(frozen=True)
class Difference:
    """A figure of several runs; fractions.

    Attributes:
        data_set, category, shots, metric: `category` is `None` for the mean over a data set's categories, and
            `data_set` too for the mean over the data sets.
        values: of each run, `None` if it lacks the figure.
        intervals: of each other run's difference from the first, 95 % (paired bootstrap over the images, each class
            separately); `None` if the images' scores are not known, as for pixel metrics.
        p_values: of each other run's difference from the first, two-sided (DeLong et al. 1988, on the mean over seeds).
    """

    data_set: str | None
    category: str | None
    shots: int
    metric: str
    values: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...] = ()
    p_values: tuple[float | None, ...] = ()


def read_run(folder: str | Path, name: str | None = None) -> Run:
    """Reads a folder that `adaptclip evaluate` wrote.

    Raises:
        FileNotFoundError: there are no results.
        ValueError: they cannot be read.
    """
    folder = Path(folder)
    for file in ("results.json", "scores.csv"):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"No evaluation in {folder}: expected {file}, which `adaptclip evaluate` writes.")
    figures = {
        (line["data_set"], line["category"], line["shots"], line["metric"]): line["mean"]
        for line in read_json(folder / "results.json")["summary"]
        if line["data_set"] is not None and not line["metric"].endswith("_threshold")
    }
    scores: dict[Case, dict[int, dict[str, tuple[int, float]]]] = {}
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            case = (row["data_set"], row["category"], int(row["shots"]))
            by_image = scores.setdefault(case, {}).setdefault(int(row["seed"]), {})
            by_image[row["image"]] = (int(row["label"]), float(row["score"]))
    return Run(name or folder.resolve().name, figures, scores)


def compare(runs: Sequence[Run], resamples: int = RESAMPLES) -> list[Difference]:
    """Compares every figure that at least two runs have with the first run's.

    Raises:
        ValueError: fewer than two runs, or runs that have no figure in common.
    """
    if len(runs) < 2:
        raise ValueError("Expected at least two evaluations to compare.")
    figures = dict.fromkeys(figure for run in runs for figure in run.figures)
    shared = [figure for figure in figures if sum(figure in run.figures for run in runs) > 1]
    if not shared:
        raise ValueError("The evaluations have no figure in common: they need the same data sets, shots and metrics.")
    differences: dict[Case, list[AurocDifference | None]] = {}
    for data_set, category, shots, metric in shared:
        if category is not None and metric == IMAGE_AUROC:
            case = (data_set, category, shots)
            differences[case] = [difference_in(case, runs[0], run, resamples) for run in runs[1:]]
    lines = []
    for data_set, category, shots, metric in shared:
        values = tuple(run.figures.get((data_set, category, shots, metric)) for run in runs)
        lines.append(with_tests(Difference(data_set, category, shots, metric, values), differences, [data_set]))
    return [*lines, *means_over_data_sets(lines, differences)]


def difference_in(case: Case, first: Run, other: Run, resamples: int) -> AurocDifference | None:
    """The difference of another run's image AUROC from the first run's; `None` if they share no scores.

    Raises:
        ValueError: the runs scored different images.
    """
    ours, theirs = first.scores.get(case, {}), other.scores.get(case, {})
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    images = sorted(ours[seeds[0]])
    if any(sorted(each[seed]) != images for each in (ours, theirs) for seed in seeds):
        raise ValueError(
            f"{'/'.join(map(str, case))}: {other.name} and {first.name} scored other images; a paired comparison "
            "needs the same."
        )
    labels = np.array([ours[seeds[0]][image][0] for image in images])
    pairs = [[np.array([each[seed][image][1] for image in images]) for each in (theirs, ours)] for seed in seeds]
    return difference_of(pairs, labels, resamples)


def with_tests(
    line: Difference, differences: dict[Case, list[AurocDifference | None]], data_sets: Sequence[str | None]
) -> Difference:
    """A line of image AUROC with its intervals and p-values; other lines as they are.

    Args:
        differences: of each category, for each run after the first.
        data_sets: those whose categories the line's figure is the mean over.
    """
    if line.metric != IMAGE_AUROC:
        return line
    weights: dict[Case, float] = {}
    for data_set in data_sets:
        cases = [case for case in differences if case[::2] == (data_set, line.shots)]
        cases = [case for case in cases if line.category in (None, case[1])]
        weights |= dict.fromkeys(cases, 1 / max(1, len(cases)) / len(data_sets))
    tests = [
        tested_mean([differences[case][index] for case in weights], list(weights.values()))
        for index in range(len(line.values) - 1)
    ]
    intervals = tuple(test and test.interval for test in tests)
    return replace(line, intervals=intervals, p_values=tuple(test and test.p_value for test in tests))


def means_over_data_sets(
    lines: list[Difference], differences: dict[Case, list[AurocDifference | None]]
) -> list[Difference]:
    """For each figure the mean over the data sets for which every run has it, if there are at least two."""
    found = []
    for shots, metric in dict.fromkeys((line.shots, line.metric) for line in lines):
        means = {
            line.data_set: line.values
            for line in lines
            if (line.category, line.shots, line.metric) == (None, shots, metric) and None not in line.values
        }
        if len(means) > 1:
            values = tuple(float(np.mean(each)) for each in zip(*means.values(), strict=True))
            found.append(with_tests(Difference(None, None, shots, metric, values), differences, list(means)))
    return found
