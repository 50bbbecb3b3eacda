"""The results of an evaluation: means and deviations, and the files that hold them."""

import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..files import write_csv, write_json, write_whole
from ..versions import package_versions
from .markdown import KINDS, cell, percent, plain, published_cell, summary_cell, table_head, table_row
from .model_index import write_model_index
from .published import differs, published_figure, published_figures

SCORE_COLUMNS = ("data_set", "category", "image", "label", "defect", "view", "sample_id")
RESULT_FILES = ("results.json", "results.csv", "results.md", "scores.csv", "prompts.json", "model-index.yml")
PACKAGES = ("torch", "transformers", "datasets", "numpy", "scipy", "Pillow")


def collect(model: dict, batch_size: int, data_sets: list[dict], records: list[dict], seconds: float) -> dict:
    """The content of results.json."""
    threads = sum(record["time"]["thread_seconds"] for record in records)
    encoder = sum(record["time"]["encoder_seconds"] for record in records)
    settings = [setting for record in records for setting in record["settings"]]
    results = {
        "model": model,
        "protocol": {
            "shots": sorted({shots for shots, _ in settings}),
            "seeds": list(dict.fromkeys(seed for _, seed in settings)),
            "batch_size": batch_size,
        },
        "data_sets": data_sets,
        "versions": {"python": platform.python_version(), **package_versions(*PACKAGES)},
        "results": [each for record in records for each in record["results"]],
        "images": {f"{record['data_set']}/{record['category']}": record["images"] for record in records},
        "notes": {
            f"{record['data_set']}/{record['category']}": record["notes"] for record in records if record["notes"]
        },
        "failures": [each for record in records for each in record["failures"]],
        "prompts": [each for record in records for each in record["prompts"]],
        "time": {
            "wall_seconds": seconds,
            "scoring_wall_seconds": sum(record["time"]["wall_seconds"] for record in records),
            "thread_seconds": threads,
            "encoder_seconds": encoder,
            "encoder_share": encoder / threads if threads else None,
        },
    }
    return results | {"summary": summarise(results)}


def summarise(results: dict) -> list[dict]:
    """Mean and sample standard deviation over the seeds of each figure: for each category, for each data set (the mean
    over its categories; `category` is `None`) and for all data sets (the mean over them; `data_set` is `None` too).

    Means are taken for each seed, then over the seeds.
    """
    lines = []
    means: dict[tuple[int, str], dict[str, dict[int, float]]] = {}  # {(shots, metric): {data set: {seed: mean}}}
    for data_set in results["data_sets"]:
        name, published_as = data_set["name"], data_set["published_as"]
        runs = [each for each in results["results"] if each["data_set"] == name]
        for shots in sorted({each["shots"] for each in runs}):
            chosen = [each for each in runs if each["shots"] == shots]
            for metric in metrics_of(chosen):
                by_category: dict[str, dict[int, float]] = {}
                for each in chosen:
                    if metric in each["metrics"]:
                        by_category.setdefault(each["category"], {})[each["seed"]] = each["metrics"][metric]
                for category, by_seed in by_category.items():
                    lines.append(summary_line((name, category, shots, metric), by_seed, published_as))
                if not metric.endswith("_threshold"):
                    by_seed = mean_by_seed(list(by_category.values()))
                    means.setdefault((shots, metric), {})[name] = by_seed
                    line = summary_line((name, None, shots, metric), by_seed, published_as)
                    lines.append(line | {"categories": len(by_category)})
    if len(results["data_sets"]) > 1:
        for (shots, metric), by_data_set in sorted(means.items(), key=lambda each: each[0][0]):
            line = summary_line((None, None, shots, metric), mean_by_seed(list(by_data_set.values())))
            lines.append(line | {"categories": None, "data_sets": len(by_data_set)})
    return lines


def mean_by_seed(rows: list[dict[int, float]]) -> dict[int, float]:
    """For each seed the mean over the rows that have it."""
    seeds = list(dict.fromkeys(seed for by_seed in rows for seed in by_seed))
    return {seed: float(np.mean([by_seed[seed] for by_seed in rows if seed in by_seed])) for seed in seeds}


def summary_line(
    figure: tuple[str | None, str | None, int, str], by_seed: dict[int, float], published_as: str | None = None
) -> dict:
    """A line of the summary, in fractions, with the figure that was published, if there is one (see [`differs`]).

    Args:
        figure: (data set, category, shots, metric).
        published_as: the paper's name of the data set.
    """
    data_set, category, shots, metric = figure
    values = list(by_seed.values())
    mean = float(np.mean(values))
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    theirs = published_figure(published_as, category, shots, metric)
    return {
        "data_set": data_set,
        "category": category,
        "shots": shots,
        "metric": metric,
        "mean": mean,
        "std": std,
        "seeds": len(values),
        "categories": 1,
        "data_sets": 1,
        "published": theirs and theirs["mean"] / 100,
        "published_std": theirs["std"] / 100 if theirs and "std" in theirs else None,
        "differs": theirs and differs(100 * mean, percent(std), theirs),
    }


def metrics_of(runs: list[dict]) -> list[str]:
    """Every metric that any run has, in the order of the tables."""
    found = dict.fromkeys(metric for each in runs for metric in each["metrics"])
    return sorted(found, key=lambda metric: (list(KINDS).index(metric.partition("_")[0]), "overkill" in metric))


def write_results(results: dict, records: list[dict], output: Path):
    """Writes results.json, results.csv, results.md, scores.csv, prompts.json and model-index.yml."""
    write_json(output / "results.json", results)
    write_json(output / "prompts.json", results["prompts"])
    write_model_index(results, output / "model-index.yml")
    write_whole(output / "results.md", as_markdown(results).encode())
    summary = results["summary"]
    columns = list(summary[0]) if summary else ["data_set"]
    write_csv(output / "results.csv", columns, [line.values() for line in summary])
    write_csv(output / "scores.csv", [*SCORE_COLUMNS, "shots", "seed", "score"], score_rows(records))


def score_rows(records: list[dict]) -> Iterator[list]:
    """The rows of scores.csv: one for each image and setting."""
    for record in records:
        for image in record["scores"]:
            about = {**record, **image}
            for run, score in zip(record["results"], image["scores"], strict=True):
                if score is not None:
                    yield [*(about[name] for name in SCORE_COLUMNS), run["shots"], run["seed"], score]


def as_markdown(results: dict) -> str:
    """Results for people: tables ready to paste, what is missing and why, and how the results were made."""
    model, protocol, time = results["model"], results["protocol"], results["time"]
    lines = [
        f"# {plain(model['name'] or 'AdaptCLIP')}: evaluation",
        "",
        f"Per cent; few-shot as mean ± sample standard deviation over seeds {', '.join(map(str, protocol['seeds']))}. "
        + described(model, protocol["batch_size"]),
        "I: images, P: pixels, S: samples of several views. AP is the area under straight lines between the points of "
        "precision and recall, those of one recall by rising precision, as in the paper's tables; it is below 100 for "
        "a perfect ranking of few images (87.5 for two and two). AvgPrec is the usual average precision. AUPIMO covers "
        "false-positive rates of normal images from 1e-5 to 1e-4. Overkill@e is the share of normal images that score "
        "at or above the e-th percentile of the anomalous ones (lower is better).",
    ]
    for data_set in results["data_sets"]:
        lines += ["", f"## {plain(data_set['name'])}"]
        if data_set["published_as"]:
            lines += [
                "",
                f"In square brackets: the published figure for {data_set['published_as']}. (!) marks a figure more "
                "than three standard deviations from it (of both over their seeds, and the rounding to a tenth).",
            ]
        for shots in protocol["shots"]:
            lines += table_of(results, data_set, shots)
    if len(results["data_sets"]) > 1:
        lines += [
            "",
            "## Mean over data sets",
            "",
            "Over the data sets with the figure; their number in brackets.",
        ]
        for shots in protocol["shots"]:
            lines += table_of_means(results, shots)
    if results["notes"]:
        lines += ["", "## What is missing, and why", ""]
        lines += [f"- {plain(f'{name}: {note}')}" for name, notes in results["notes"].items() for note in notes]
    lines += [f"- {plain('{data_set}/{image}: {error}'.format(**each))}" for each in results["failures"]]
    share = "" if time["encoder_share"] is None else f", {100 * time['encoder_share']:.0f} % of it in the image encoder"
    images = sum(sum(each.values()) for each in results["images"].values())
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    lines += ["", f"{images} images in {time['scoring_wall_seconds']:.0f} s{share}. {versions}."]
    return "\n".join(lines) + "\n"


def described(model: dict, batch_size: int) -> str:
    """What was evaluated, and how, in one line."""
    if "maps" in model:
        return f"Saved maps {model['maps'][:12]}, image scores: {model['scores']}."
    return f"{model['image_size']} px, {model['dtype']}, batches of {batch_size}, weights {model['weights'][:12]}."


def table_of(results: dict, data_set: dict, shots: int) -> list[str]:
    """A data set's figures for a number of shots: its categories, their mean, and the published figures."""
    chosen = [
        each
        for each in results["summary"]
        if (each["data_set"], each["shots"]) == (data_set["name"], shots) and not each["metric"].endswith("_threshold")
    ]
    if not chosen:
        return []
    metrics = list(dict.fromkeys(each["metric"] for each in chosen))
    cells: dict[str | None, dict[str, str]] = {}
    for each in chosen:
        cells.setdefault(each["category"], {})[each["metric"]] = summary_cell(each) + beside(each)
    lines = ["", *table_head(f"{shots}-shot", metrics)]
    lines += [table_row(plain(category), metrics, cells.get(category, {})) for category in data_set["categories"]]
    if len(data_set["categories"]) > 1 or data_set["published_as"]:
        lines.append(table_row("**mean**", metrics, cells.get(None, {})))
    for method, figures in published_figures(data_set["published_as"], shots).items():
        published = {metric: cell(**figure) for metric, figure in figures.items()}
        lines.append(table_row(f"*{method}, published*", metrics, published))
    return lines


def beside(line: dict) -> str:
    """What a cell shows beside a figure: the published one, and whether they differ."""
    if line.get("published") is None:
        return ""
    return f" [{published_cell(line)}]{' (!)' if line['differs'] else ''}"


def table_of_means(results: dict, shots: int) -> list[str]:
    """The means over all data sets for a number of shots."""
    chosen = {
        each["metric"]: f"{summary_cell(each)} ({each['data_sets']})"
        for each in results["summary"]
        if each["data_set"] is None and each["shots"] == shots
    }
    if not chosen:
        return []
    return ["", *table_head(f"{shots}-shot", list(chosen)), table_row("**mean**", list(chosen), chosen)]
