"""The paper's figures, to show beside new ones."""

import json
import math
from functools import cache
from pathlib import Path

METHOD = "AdaptCLIP"
FILE = Path(__file__).with_name("published_results.json")
CATEGORIES_FILE = Path(__file__).with_name("published_categories.json")
ROUNDING = 0.1  # per cent; figures are published to a tenth, so no standard deviation is known better
DEVIATIONS = 3
# data sets of one category, recognised by their layout
BY_LAYOUT = {"ksdd": "KSDD", "br35h": "Br35H", "covid": "Covid", "kvasir": "Kvasir", "endo": "Endo"}


@cache
def published_results() -> dict:
    """`categories` {data set: names}, `figures` {data set: {shots: {method: {metric: {"mean", "std"}}}}}, per cent."""
    return json.loads(FILE.read_text())


@cache
def published_categories() -> dict:
    """{data set: {shots: {"source", "categories" {name: {metric: [mean, std] or [value]}}, "mean"}}}, per cent."""
    return json.loads(CATEGORIES_FILE.read_text())["data_sets"]


def published_name(layout: str, categories: list[str]) -> str | None:
    """The paper's name of a data set with this layout and exactly these categories; `None` if it has none."""
    if layout in BY_LAYOUT:
        return BY_LAYOUT[layout]
    known = dict(published_results()["categories"])
    for name, by_shots in published_categories().items():
        known.setdefault(name, list(by_shots["0"]["categories"]))
    return next((name for name, each in known.items() if set(each) == set(categories)), None)


def published_figures(name: str | None, shots: int) -> dict[str, dict[str, dict[str, float]]]:
    """{method: {metric: {"mean", and "std" over the seeds}}} in per cent; empty if the paper has none."""
    figures = published_results()["figures"].get(name, {}).get(str(shots), {})
    means = published_categories().get(name, {}).get(str(shots), {}).get("mean")
    if METHOD not in figures and means:
        figures = {**figures, METHOD: {metric: as_figure(values) for metric, values in means.items()}}
    return figures


def published_figure(name: str | None, category: str | None, shots: int, metric: str) -> dict[str, float] | None:
    """{"mean", and "std" over the seeds} of AdaptCLIP, in per cent; `None` if nothing was published.

    Args:
        category: `None` for the mean over the data set's categories.
    """
    if category is None:
        return published_figures(name, shots).get(METHOD, {}).get(metric)
    block = published_categories().get(name, {}).get(str(shots), {})
    values = block.get("categories", {}).get(category, {}).get(metric)
    return None if values is None else as_figure(values)


def as_figure(values: list[float]) -> dict[str, float]:
    return dict(zip(("mean", "std"), values, strict=False))


def differs(mean: float, std: float | None, published: dict[str, float]) -> bool:
    """Whether a figure, in per cent, is more than three standard deviations from the published one.

    The deviation combines that of both figures over their seeds and the rounding of the published one.
    """
    spread = math.hypot(std or 0.0, published.get("std", 0.0), ROUNDING)
    return abs(mean - published["mean"]) > DEVIATIONS * spread
