"""The paper's figures, to stand beside one's own."""

import json
from functools import cache
from pathlib import Path

METHOD = "AdaptCLIP"
FILE = Path(__file__).with_name("published_results.json")
# data sets of one category, which the layout tells
BY_LAYOUT = {"ksdd": "KSDD", "br35h": "Br35H", "covid": "Covid", "kvasir": "Kvasir", "endo": "Endo"}


@cache
def published_results() -> dict:
    """`categories` {data set: names}, `figures` {data set: {shots: {method: {metric: {"mean", "std"}}}}}, per cent."""
    return json.loads(FILE.read_text())


def published_name(layout: str, categories: list[str]) -> str | None:
    """The paper's name of a data set that has this layout and exactly these categories."""
    if layout in BY_LAYOUT:
        return BY_LAYOUT[layout]
    known = published_results()["categories"]
    return next((name for name, each in known.items() if set(each) == set(categories)), None)


def published_figures(name: str | None, shots: int) -> dict[str, dict[str, dict[str, float]]]:
    """{method: {metric: {"mean", and "std" over the seeds}}} in per cent; empty where the paper has none."""
    return published_results()["figures"].get(name, {}).get(str(shots), {})
