"""Data sets of the Hub (or in a local folder as the Hub has them) with the columns of [`FEATURES`]."""

from collections.abc import Iterator
from pathlib import Path

import datasets
import yaml
from pyarrow import ArrowException

from ..reporting import first_line
from .rows import FEATURES, SPLITS
from .words import BAD, GOOD, label_of_name

NEEDED = ("image", "label")


def load_hub_dataset(name: str) -> datasets.Dataset:
    """All splits as one data set with the columns of [`FEATURES`]; missing ones are filled in.

    The split is that of the column `split` or the data set's own ("train" stays, every other is "test"); without a
    column `category` all images are of one category. Labels are read by the names of their classes; numbers without
    names are 0 (normal) and 1.

    Raises:
        ValueError: it cannot be loaded, a column is missing or of another type, or a label is not known.
    """
    parts = []
    for split, part in loaded(name).items():
        if missing := [column for column in NEEDED if column not in part.column_names]:
            raise ValueError(f"{name} lacks the column {', '.join(missing)}; it has {', '.join(part.column_names)}.")
        labels = read_labels(part, name)
        part = part.remove_columns("label").add_column("label", labels)
        defaults = {
            "mask": [None] * len(part),
            "category": [name.rstrip("/").rpartition("/")[2]] * len(part),
            "defect": ["anomaly" if label else "good" for label in labels],
            "split": ["train" if split == "train" else "test"] * len(part),
            "view": [None] * len(part),
            "sample_id": [None] * len(part),
        }
        for column, values in defaults.items():
            if column not in part.column_names:
                part = part.add_column(column, values)
        try:
            parts.append(part.select_columns(list(FEATURES)).cast(FEATURES))
        except (ArrowException, TypeError, ValueError) as error:
            raise ValueError(
                f"{name}, {split}: a column has another type than expected: {first_line(error)}"
            ) from error
    dataset = datasets.concatenate_datasets(parts)
    if unknown := set(dataset.unique("split")) - set(SPLITS):
        raise ValueError(f"{name}: expected the splits train and test, got {sorted(map(str, unknown))}.")
    return dataset


def loaded(name: str) -> datasets.DatasetDict:
    require_files_here(Path(name))
    try:
        return datasets.load_dataset(name)
    except Exception as error:  # of a damaged file, whatever its reader raises
        if isinstance(error, OSError | ValueError) and name in str(error):
            raise
        raise ValueError(f"{name} cannot be loaded: {first_line(error.__cause__ or error)}") from error


def require_files_here(folder: Path):
    """Refuses a folder here whose README.md names files at other addresses: a folder makes no network call.

    Raises:
        ValueError: names the file and the address.
    """
    card = folder / "README.md"
    if not card.is_file():
        return
    try:
        start = card.read_text(encoding="utf-8").split("\n---", 1)[0]
        about = yaml.safe_load(start.removeprefix("---")) if start.startswith("---") else None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{card} has no readable description at its start: {first_line(error)}") from error
    for text in texts_in(about.get("configs") if isinstance(about, dict) else None):
        if "://" in text:
            raise ValueError(f"{card} names {text[:80]}, which is not a file of this folder: download it first.")


def texts_in(value) -> Iterator[str]:
    """All texts in a value of YAML."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts_in(each)


def read_labels(part: datasets.Dataset, name: str) -> list[int]:
    """0 for a normal and 1 for an anomalous image, by the names of the classes.

    Raises:
        ValueError: a label is missing or its name is not known.
    """
    feature = part.features["label"]
    classes = feature.names if isinstance(feature, datasets.ClassLabel) else None
    labels = []
    for row, value in enumerate(part["label"]):
        text = classes[value] if classes and isinstance(value, int) and 0 <= value < len(classes) else value
        label = label_of_name(text) if isinstance(text, str) else {0: 0, 1: 1}.get(text)
        if label is None:
            listing = f"normal: {', '.join(GOOD)}; anomalous: {', '.join(BAD)}"
            raise ValueError(f"{name}, row {row}: the label {text!r} is not known ({listing}).")
        labels.append(label)
    return labels
