"""The rows of every data set, as a `datasets.Dataset`; images are decoded when they are read."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from io import BytesIO

import datasets
import numpy as np
from PIL import Image

NORMAL_DEFECT = "good"
SPLITS = ("train", "test")

FEATURES = datasets.Features(
    {
        "image": datasets.Image(),
        "mask": datasets.Image(),
        "label": datasets.ClassLabel(names=["normal", "anomalous"]),
        "category": datasets.Value("string"),
        "defect": datasets.Value("string"),
        "split": datasets.Value("string"),
        "view": datasets.Value("string"),
        "sample_id": datasets.Value("string"),
    }
)

Mask = str | dict


@dataclass
class Row:
    """One image of an anomaly data set.

    Attributes:
        image: path of the image.
        label: 0 normal, 1 anomalous.
        category: the product, organ or material.
        split: "train" (normal images to compare with) or "test".
        defect: the kind of defect; "good" for a normal image.
        mask: path of the mask, which is above 0 where the anomaly is, or `{"path": name, "bytes": of a PNG}` where it
            is not one file; `None` without a mask.
        view: the camera of a multi-view set, such as "C1".
        sample_id: what the views of one object share.
    """

    image: str
    label: int
    category: str
    split: str
    defect: str = NORMAL_DEFECT
    mask: Mask | None = None
    view: str | None = None
    sample_id: str | None = None


def build_dataset(rows: Iterable[Row]) -> datasets.Dataset:
    """The rows as a `datasets.Dataset` with [`FEATURES`]; nothing is opened."""
    columns: dict[str, list] = {field.name: [] for field in fields(Row)}
    for row in rows:
        for name, value in asdict(row).items():
            columns[name].append(value)
    return datasets.Dataset.from_dict({name: columns[name] for name in FEATURES}, features=FEATURES)


def as_mask(name: str, mask: np.ndarray) -> Mask:
    """A mask of booleans (H, W) that is not a file; `name` must not be one either, or that file would be read."""
    buffer = BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return {"path": name, "bytes": buffer.getvalue()}
