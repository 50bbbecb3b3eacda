"""A comparison of evaluations as Markdown, as CSV and as a plot."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..files import whole_file, write_csv
from .comparison import IMAGE_AUROC, RESAMPLES, Difference, Run
from .markdown import head, plain, row, title
from .plots import drawable

COLUMNS = ("data_set", "category", "shots", "metric", "run", "value", "low", "high", "p_value")


def as_markdown(runs: Sequence[Run], lines: Sequence[Difference]) -> str:
    """Tables of each metric's figures of all runs; for image AUROC also the differences' intervals and p-values."""
    names = [plain(run.name) for run in runs]
    text = [
        f"# {', '.join(names)}",
        "",
        f"Per cent, mean over the seeds. Differences are from {names[0]}. In brackets is the 95 % interval of a "
        f"paired bootstrap over the images ({RESAMPLES} resamples, each class separately), p is of DeLong's test. Both "
        "are for image AUROC only, for which every image's score is kept. For the mean, categories count as "
        "independent.",
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
        text += ["", f"## {plain(data_set)}, {shots}-shot"]
        for metric in dict.fromkeys(line.metric for line in chosen):
            text += table_of(runs, [line for line in chosen if line.metric == metric], metric)
    return "\n".join(text) + "\n"


def table_of(runs: Sequence[Run], lines: Sequence[Difference], metric: str | None) -> list[str]:
    """A table of one metric, with a row for each category and the mean last; without `metric` a row for each metric."""
    if not lines:
        return []
    heads = [title(metric) if metric else "mean over the data sets", plain(runs[0].name)]
    heads += [cell for run in runs[1:] for cell in (plain(run.name), "difference")]
    rows = [
        row(
            [(plain(line.category) if line.category else "**mean**") if metric else title(line.metric), *cells_of(line)]
        )
        for line in sorted(lines, key=lambda line: line.category is None)
    ]
    return ["", *head(heads), *rows]


def cells_of(line: Difference) -> list[str]:
    """The first run's figure, then each other run's figure and its difference from the first."""
    first = line.values[0]
    cells = [shown(first)]
    for index, value in enumerate(line.values[1:]):
        cells.append(shown(value))
        difference = "-" if value is None or first is None else f"{100 * (value - first):+.1f}"
        interval, p_value = tests_of(line, index)
        if difference != "-" and interval is not None:
            low, high = interval
            difference += f" [{100 * low:+.1f}, {100 * high:+.1f}], p {p_value:.3f}"
        cells.append(difference)
    return cells


def tests_of(line: Difference, index: int) -> tuple[tuple[float, float] | None, float | None]:
    """Interval and p-value of a run's difference from the first run, which is not counted by `index`."""
    if not line.intervals:
        return None, None
    return line.intervals[index], line.p_values[index]


def shown(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def write_comparison(runs: Sequence[Run], lines: Sequence[Difference], file: Path):
    """Writes a CSV file with a row for each figure and run."""
    rows = []
    for line in lines:
        for number, (run, value) in enumerate(zip(runs, line.values, strict=True)):
            interval, p_value = tests_of(line, number - 1) if number else (None, None)
            figure = (line.data_set, line.category, line.shots, line.metric)
            rows.append([*figure, run.name, value, *(interval or (None, None)), p_value])
    write_csv(file, COLUMNS, rows)


def plot(runs: Sequence[Run], lines: Sequence[Difference], file: Path):
    """Draws the image AUROC of each category: a point for each run, joined by a line.

    Raises:
        ImportError: matplotlib, which the extra `plots` installs, is missing.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    aurocs = [line for line in lines if line.metric == IMAGE_AUROC]
    categories = Counter((line.data_set, line.shots) for line in aurocs if line.category)
    # the mean over a single category would repeat it
    chosen = [line for line in aurocs if line.category or categories[line.data_set, line.shots] != 1]
    chosen.sort(key=lambda line: line.shots)
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.3 * len(chosen)), layout="constrained")
    for height, line in enumerate(reversed(chosen)):
        values = {number: 100 * value for number, value in enumerate(line.values) if value is not None}
        axes.plot([min(values.values()), max(values.values())], [height, height], color="0.7", zorder=1)
        for number, value in values.items():
            axes.scatter(value, height, color=f"C{number}", zorder=2)
    for number, run in enumerate(runs):
        axes.scatter([], [], color=f"C{number}", label=drawable(run.name))
    names = [line.category or (f"mean of {line.data_set}" if line.data_set else "MEAN") for line in chosen]
    labels = [f"{drawable(name)}, {line.shots}-shot" for name, line in zip(names, chosen, strict=True)]
    axes.set_yticks(range(len(chosen)), labels[::-1])
    axes.set_xlabel("image AUROC, %")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    with whole_file(file) as opened:
        figure.savefig(opened, format=file.suffix.removeprefix(".") or "png", dpi=120)
    pyplot.close(figure)
