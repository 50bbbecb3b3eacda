"""Results of several evaluations side by side, and which differences the images can carry."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from ..files import read_json
from .markdown import title

RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
IMAGE_AUROC = "image_auroc"

Place = tuple[str, str, int]  # data set, category, shots


@dataclass(frozen=True)
class Run:
    """An evaluation's results.

    Attributes:
        name: of its folder.
        figures: {(data set, category or None for the mean, shots, metric): mean over the seeds}, fractions.
        scores: {place: {seed: {image: (label, score)}}}.
    """

    name: str
    figures: dict[tuple[str, str | None, int, str], float]
    scores: dict[Place, dict[int, dict[str, tuple[int, float]]]]


@dataclass(frozen=True)
class Difference:
    """A figure of several runs; fractions.

    Attributes:
        data_set, category, shots, metric: what it is of; `category` is `None` for the mean over the data set's, and
            `data_set` too for the mean over the data sets.
        values: of each run, `None` where it has none.
        intervals: of each run's difference from the first, 95 % (paired bootstrap over the images, each class by
            itself); `None` where the images' scores are not known, as for pixel metrics.
        p_values: of each run's difference from the first, two-sided (DeLong et al. 1988, on the mean over the seeds).
    """

    data_set: str | None
    category: str | None
    shots: int
    metric: str
    values: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...] = ()
    p_values: tuple[float | None, ...] = ()


def read_run(folder: str | Path, name: str | None = None) -> Run:
    """Reads the folder that `adaptclip evaluate` wrote.

    Raises:
        FileNotFoundError: no results there.
        ValueError: they cannot be read.
    """
    folder = Path(folder)
    for file in ("results.json", "scores.csv"):
        if not (folder / file).is_file():
            raise FileNotFoundError(f"No evaluation in {folder}: expected {file}, which `adaptclip evaluate` writes.")
    results = read_json(folder / "results.json")
    figures = {
        (line["data_set"], line["category"], line["shots"], line["metric"]): line["mean"]
        for line in results["summary"]
        if line["data_set"] is not None and not line["metric"].endswith("_threshold")
    }
    scores: dict[Place, dict[int, dict[str, tuple[int, float]]]] = {}
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            place = (row["data_set"], row["category"], int(row["shots"]))
            by_image = scores.setdefault(place, {}).setdefault(int(row["seed"]), {})
            by_image[row["image"]] = (int(row["label"]), float(row["score"]))
    return Run(name or folder.resolve().name, figures, scores)


def compare(runs: Sequence[Run], resamples: int = RESAMPLES) -> list[Difference]:
    """Every figure that at least two runs have, beside the first run's.

    Raises:
        ValueError: fewer than two runs, or runs that have no figure in common.
    """
    if len(runs) < 2:
        raise ValueError("Expected at least two evaluations to compare.")
    places = [place for place in dict.fromkeys(key for run in runs for key in run.figures)]
    shared = [place for place in places if sum(place in run.figures for run in runs) > 1]
    if not shared:
        raise ValueError("The evaluations have no figure in common: they need the same data sets, shots and metrics.")
    tested = {place: tested_at(runs, place, resamples) for place in places_of(shared)}
    found = []
    for data_set, category, shots, metric in shared:
        values = tuple(run.figures.get((data_set, category, shots, metric)) for run in runs)
        line = Difference(data_set, category, shots, metric, values)
        if metric == IMAGE_AUROC:
            categories = [place for place in tested if place[::2] == (data_set, shots) and category in (None, place[1])]
            line = with_tests(line, [(tested[place], 1 / len(categories)) for place in categories])
        found.append(line)
    return [*found, *means_over_data_sets(found, tested)]


def means_over_data_sets(lines: list[Difference], tested: dict[Place, "Tested"]) -> list[Difference]:
    """The means of the data sets' means, of those that every run has; none where there is one data set."""
    found = []
    for shots, metric in dict.fromkeys((line.shots, line.metric) for line in lines):
        means = [
            line
            for line in lines
            if (line.category, line.shots, line.metric) == (None, shots, metric) and None not in line.values
        ]
        if len(means) < 2:
            continue
        values = tuple(float(np.mean(each)) for each in zip(*(line.values for line in means), strict=True))
        line = Difference(None, None, shots, metric, values)
        if metric == IMAGE_AUROC:
            weighted = []
            for each in means:
                places = [place for place in tested if place[::2] == (each.data_set, shots)]
                weighted += [(tested[place], 1 / len(places) / len(means)) for place in places]
            line = with_tests(line, weighted)
        found.append(line)
    return found


def places_of(shared: list[tuple]) -> list[Place]:
    return list(dict.fromkeys((each[0], each[1], each[2]) for each in shared if each[1] and each[3] == IMAGE_AUROC))


@dataclass(frozen=True)
class Tested:
    """Of one category, for each run after the first, what its difference from the first is and how sure: its value, its
    variance by DeLong, and resampled values."""

    differences: list[tuple[float, float, np.ndarray] | None]


def tested_at(runs: Sequence[Run], place: Place, resamples: int) -> Tested:
    first = runs[0].scores.get(place)
    found = []
    for run in runs[1:]:
        other = run.scores.get(place)
        if not first or not other or not (seeds := sorted(first.keys() & other.keys())):
            found.append(None)
            continue
        images = sorted(first[seeds[0]])
        if any(sorted(each[seed]) != images for each in (first, other) for seed in seeds):
            raise ValueError(
                f"{'/'.join(map(str, place))}: {run.name} and {runs[0].name} scored other images; a paired comparison "
                "needs the same."
            )
        labels = np.array([first[seeds[0]][image][0] for image in images])
        pairs = [[np.array([each[seed][image][1] for image in images]) for each in (other, first)] for seed in seeds]
        found.append(difference_of(pairs, labels, resamples))
    return Tested(found)


def difference_of(
    pairs: list[list[np.ndarray]], labels: np.ndarray, resamples: int
) -> tuple[float, float, np.ndarray] | None:
    """The difference of two methods' image AUROC, mean over seeds, its DeLong variance, and paired resamples of it.

    Args:
        pairs: for each seed the scores (N,) of both.
        labels: (N,) 0 or 1.
    """
    if labels.min() == labels.max():
        return None
    components = [[placements(scores, labels) for scores in pair] for pair in pairs]
    # (positives,) and (negatives,) of how much each image speaks for the one or the other, mean over the seeds
    positive, negative = (np.mean([one[side] - other[side] for one, other in components], axis=0) for side in (0, 1))
    value = float(positive.mean())
    variance = sum(part.var(ddof=1) / len(part) if len(part) > 1 else 0.0 for part in (positive, negative))
    rng = np.random.default_rng(SEED)
    drawn = [
        np.concatenate([rng.choice(np.flatnonzero(labels == label), (labels == label).sum()) for label in (0, 1)])
        for _ in range(resamples)
    ]
    resampled = np.array(
        [
            np.mean([auroc(one[rows], labels[rows]) - auroc(other[rows], labels[rows]) for one, other in pairs])
            for rows in drawn
        ]
    )
    return value, float(variance), resampled


def auroc(scores: np.ndarray, labels: np.ndarray) -> float:
    return float(placements(scores, labels)[0].mean())


def placements(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative the share of positives above it; ties count
    half. Both means are the AUROC (DeLong et al. 1988, by the midranks of Sun and Xu 2014)."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    of_positive, of_negative = ranks[: len(positive)], ranks[len(positive) :]
    above = (of_positive - stats.rankdata(positive)) / len(negative)
    below = 1 - (of_negative - stats.rankdata(negative)) / len(positive)
    return above, below


def with_tests(line: Difference, tested: list[tuple[Tested, float]]) -> Difference:
    """A category's line with its interval and p-value; a mean's with those of the weighted mean of independent
    categories."""
    intervals: list[tuple[float, float] | None] = []
    p_values: list[float | None] = []
    for index in range(len(line.values) - 1):
        parts = [each.differences[index] for each, _ in tested]
        if not parts or any(part is None for part in parts):
            intervals.append(None)
            p_values.append(None)
            continue
        values, variances, resampled = map(np.array, zip(*parts, strict=True))
        weights = np.array([weight for _, weight in tested])
        low, high = np.quantile(weights @ resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        intervals.append((float(low), float(high)))
        p_values.append(two_sided(float(weights @ values), float(np.sqrt(weights**2 @ variances))))
    return Difference(
        line.data_set, line.category, line.shots, line.metric, line.values, tuple(intervals), tuple(p_values)
    )


def two_sided(value: float, deviation: float) -> float:
    if deviation == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * stats.norm.sf(abs(value) / deviation))


def report(runs: Sequence[Run], lines: Sequence[Difference]) -> str:
    """Tables in Markdown: each metric's figures of all runs, and of image AUROC what the images can carry."""
    text = [
        f"# {', '.join(run.name for run in runs)}",
        "",
        f"Per cent, mean over the seeds. Differences are from {runs[0].name}: in brackets the 95 % interval of a "
        f"paired bootstrap over the images ({RESAMPLES} resamples, each class by itself), p by DeLong's test; both for "
        "image AUROC, whose scores are kept image by image. The mean takes categories as independent.",
    ]
    data_sets = list(dict.fromkeys(line.data_set for line in lines if line.data_set is not None))
    for shots in dict.fromkeys(line.shots for line in lines if len(data_sets) > 1):
        text += ["", f"## All data sets, {shots}-shot"]
        chosen = [line for line in lines if (line.shots, line.metric) == (shots, IMAGE_AUROC)]
        text += table_of(runs, [line for line in chosen if line.category or line.data_set is None], IMAGE_AUROC)
        means = [line for line in lines if (line.data_set, line.shots) == (None, shots)]
        text += table_of(runs, [line for line in means if line.metric != IMAGE_AUROC], None)
    for data_set, shots in dict.fromkeys((line.data_set, line.shots) for line in lines if line.data_set is not None):
        chosen = [line for line in lines if (line.data_set, line.shots) == (data_set, shots)]
        text += ["", f"## {data_set}, {shots}-shot"]
        for metric in dict.fromkeys(line.metric for line in chosen):
            text += table_of(runs, [line for line in chosen if line.metric == metric], metric)
    return "\n".join(text) + "\n"


def table_of(runs: Sequence[Run], lines: Sequence[Difference], metric: str | None) -> list[str]:
    """Figures of one metric, a row a category and the mean last; without `metric` a row a metric."""
    if not lines:
        return []
    heads = [runs[0].name, *(word for run in runs[1:] for word in (run.name, "difference"))]
    first = title(metric) if metric else "mean over the data sets"
    ordered = sorted(lines, key=lambda line: line.category is None)
    rows = [row_of(line, (line.category or "**mean**") if metric else title(line.metric)) for line in ordered]
    return ["", f"| {first} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|", *rows]


def row_of(line: Difference, name: str) -> str:
    first = line.values[0]
    cells = [shown(first)]
    for index, value in enumerate(line.values[1:]):
        cells.append(shown(value))
        if value is None or first is None:
            cells.append("-")
            continue
        text = f"{100 * (value - first):+.1f}"
        if line.intervals and line.intervals[index]:
            low, high = line.intervals[index]
            text += f" [{100 * low:+.1f}, {100 * high:+.1f}], p {line.p_values[index]:.3f}"
        cells.append(text)
    return f"| {name} | {' | '.join(cells)} |"


def shown(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def plot(runs: Sequence[Run], lines: Sequence[Difference], file: Path):
    """Image AUROC of each category, a point a run, the lines between them as long as the difference.

    Raises:
        ImportError: matplotlib, which the extra `plots` brings, is not there.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    categories = Counter((line.data_set, line.shots) for line in lines if line.metric == IMAGE_AUROC and line.category)
    chosen = [
        line
        for line in lines
        if line.metric == IMAGE_AUROC and (line.category or categories[line.data_set, line.shots] != 1)
    ]
    chosen.sort(key=lambda line: line.shots)
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.3 * len(chosen)), layout="constrained")
    for row, line in enumerate(reversed(chosen)):
        values = [None if value is None else 100 * value for value in line.values]
        there = [value for value in values if value is not None]
        axes.plot([min(there), max(there)], [row, row], color="0.7", zorder=1)
        for number, value in enumerate(values):
            if value is not None:
                axes.scatter(value, row, color=f"C{number}", zorder=2)
    for number, run in enumerate(runs):
        axes.scatter([], [], color=f"C{number}", label=run.name)
    names = [line.category or (f"mean of {line.data_set}" if line.data_set else "MEAN") for line in chosen]
    labels = [f"{name}, {line.shots}-shot" for name, line in zip(names, chosen, strict=True)]
    axes.set_yticks(range(len(chosen)), labels[::-1])
    axes.set_xlabel("image AUROC, %")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def write_csv(runs: Sequence[Run], lines: Sequence[Difference], file: Path):
    """A line a figure and run."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        rows = csv.writer(opened)
        rows.writerow(["data_set", "category", "shots", "metric", "run", "value", "low", "high", "p_value"])
        for line in lines:
            for number, (run, value) in enumerate(zip(runs, line.values, strict=True)):
                interval = line.intervals[number - 1] if number and line.intervals else None
                p_value = line.p_values[number - 1] if number and line.p_values else None
                place = [line.data_set, line.category, line.shots, line.metric]
                rows.writerow([*place, run.name, value, *(interval or (None, None)), p_value])
