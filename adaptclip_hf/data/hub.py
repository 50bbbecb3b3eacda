"""Data sets of the Hub (or in a local folder as the Hub has them) with the columns of [`FEATURES`]."""

import datasets

from .rows import FEATURES, SPLITS

NEEDED = ("image", "label")


def load_hub_dataset(name: str) -> datasets.Dataset:
    """All splits as one data set with the columns of [`FEATURES`]; those that are not there are filled in.

    The split is that of the column `split` or the data set's own ("train" stays, every other is "test"); without a
    column `category` all images are of one.

    Raises:
        ValueError: a column is missing, or labels are not 0 and 1.
    """
    parts = []
    for split, part in datasets.load_dataset(name).items():
        if missing := [column for column in NEEDED if column not in part.column_names]:
            raise ValueError(f"{name} lacks the column {', '.join(missing)}; it has {', '.join(part.column_names)}.")
        defaults = {
            "mask": [None] * len(part),
            "category": [name.rstrip("/").rpartition("/")[2]] * len(part),
            "defect": ["anomaly" if label else "good" for label in part["label"]],
            "split": ["train" if split == "train" else "test"] * len(part),
            "view": [None] * len(part),
            "sample_id": [None] * len(part),
        }
        for column, values in defaults.items():
            if column not in part.column_names:
                part = part.add_column(column, values)
        parts.append(part.select_columns(list(FEATURES)).cast(FEATURES))
    dataset = datasets.concatenate_datasets(parts)
    if unknown := set(dataset.unique("split")) - set(SPLITS):
        raise ValueError(f"{name}: expected the splits train and test, got {sorted(map(str, unknown))}.")
    return dataset
