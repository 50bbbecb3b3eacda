"""The data sets of an evaluation, each under a name of its own."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import datasets

from ..data import load_data_set
from ..data.specs import HUB, resolve_spec, unique_name
from ..reporting import Report
from .progress import ADVICE
from .protocol import EvaluatedCategory, split_categories
from .published import published_name

# the published figures of these layouts are of maps and masks reduced to this side
MAP_SIZES = {"real-iad": 256, "real-iad-variety": 256}


@dataclass
class EvaluatedDataSet:
    """A data set as it is evaluated.

    Attributes:
        name: unique in the evaluation.
        spec, layout, root: what the caller gave, and what it stands for.
        published_as: the paper's name of it, if the paper has it.
        map_size: side at which maps are compared unless the caller names another; `None` leaves them as they are.
        listing: a digest of its rows.
    """

    name: str
    spec: str
    layout: str
    root: str
    published_as: str | None
    map_size: int | None
    categories: list[EvaluatedCategory]
    listing: str

    def record(self) -> dict:
        """The data set as results.json describes it."""
        return {**vars(self), "categories": [each.name for each in self.categories]}


def load_data_sets(specs: Sequence[str], known: list[dict], report: Report) -> list[EvaluatedDataSet]:
    """Lists the data sets.

    Args:
        known: records of the data sets of earlier runs; they keep their names.

    Raises:
        ValueError: a data set has no test image, or its images have changed since the earlier run.
    """
    found: list[EvaluatedDataSet] = []
    for spec in specs:
        layout, root = resolve_spec(spec)
        categories = split_categories(load_data_set(spec, lambda line: report(f"! {line}")), Path(root))
        if not categories:
            raise ValueError(f"{spec} has no test image: there is nothing to evaluate.")
        listing = digest_of(categories, "" if layout == HUB else root)
        taken = [each.name for each in found]
        name = known_name(root, listing, [each for each in known if each["name"] not in taken])
        name = name or unique_name(root, [*taken, *(each["name"] for each in known)])
        categories = [replace(each, data_set=name) for each in categories]
        published_as = published_name(layout, [each.name for each in categories])
        map_size = MAP_SIZES.get(layout)
        found.append(EvaluatedDataSet(name, str(spec), layout, root, published_as, map_size, categories, listing))
    return found


def known_name(root: str, listing: str, known: list[dict]) -> str | None:
    """The name that an earlier run gave a data set; `None` for a new one.

    Raises:
        ValueError: the folder held other images in the earlier run.
    """
    for each in known:
        if each["root"] == root and each["listing"] != listing:
            raise ValueError(
                f"There is another evaluation, which differs in data_sets: the images in {root} have changed since its "
                f"results were made; {ADVICE}."
            )
    same = [each for each in known if each["listing"] == listing]
    return next((each["name"] for each in sorted(same, key=lambda each: each["root"] != root)), None)


def digest_of(categories: list[EvaluatedCategory], root: str) -> str:
    """A digest of all rows, so that a run does not continue with other images."""
    digest = hashlib.sha256()
    for category in categories:
        add_rows(digest, category.rows, ("label", "split", "view", "sample_id"), lambda path: path.removeprefix(root))
    return digest.hexdigest()


def add_rows(digest, rows: datasets.Dataset, columns: Sequence[str], shorten: Callable[[str], str | tuple[str, ...]]):
    """Adds the shortened paths of images and masks, and further columns, to a digest."""
    table = rows.with_format("arrow")
    for name in ("image", "mask"):
        paths = [each and each["path"] for each in table[name].to_pylist()]
        digest.update(json.dumps([path and shorten(path) for path in paths]).encode())
    for name in columns:
        digest.update(json.dumps(table[name].to_pylist()).encode())


def too_many_shots(data_sets: list[EvaluatedDataSet], most: int) -> list[str]:
    """A line for each category that has fewer normal images than are asked for."""
    lines = []
    for category in (each for data_set in data_sets for each in data_set.categories):
        normals = min((len(rows) for rows in category.normals.values()), default=0)
        if 0 < normals < most:
            lines.append(
                f"{category.data_set}/{category.name}: {most}-shot of {normals} normal images; they are drawn "
                "with replacement, so some are drawn several times"
            )
    return lines
