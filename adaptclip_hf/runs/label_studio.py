"""Label Studio: tasks with predictions, and the addresses at which it finds the images."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..labels import ANOMALOUS
from .folder import is_remote

LABEL = "anomaly"


@dataclass(frozen=True)
class ImageAddresses:
    """Where Label Studio finds the images of a run.

    Attributes:
        prefix: what comes before an image's path, such as `/data/local-files/?d=` or `https://host/photos/`; with
            `None` paths stay as they are.
        root: the folder that the prefix stands for; images lie below it.
    """

    prefix: str | None = None
    root: str = "."

    @classmethod
    def noted(cls, content) -> "ImageAddresses":
        """What a run's settings hold of an earlier call; paths as they are where that is nothing of ours."""
        try:
            prefix, root = content["prefix"], content["root"]
        except (KeyError, TypeError):
            return cls()
        return cls(prefix, root) if isinstance(prefix, str) and isinstance(root, str) else cls()

    def of(self, path: str) -> str:
        """The address of an image; one that is an address already stays.

        Raises:
            ValueError: the image does not lie below the root.
        """
        if self.prefix is None or is_remote(path):
            return path
        root = Path(os.path.abspath(self.root))  # noqa: PTH100 (links stay as they are named)
        file = Path(os.path.abspath(path))  # noqa: PTH100
        if not file.is_relative_to(root):
            raise ValueError(
                f"{path} does not lie below {root}, which the Label Studio prefix stands for: name a folder above the "
                "images with --label-studio-root."
            )
        return self.prefix + quote(os.fsencode(file.relative_to(root).as_posix()))


def tasks(rows: Iterable[dict], addresses: ImageAddresses) -> Iterator[dict]:
    """Tasks with predictions: a choice for the image, a polygon for each region; in per cent of the image's sides.

    For the labelling configuration of docs/inspection.md.

    Args:
        rows: with a score.
    """
    for row in rows:
        yield {
            "data": {"image": addresses.of(row["path"]), "path": row["path"], "p_value": row["p_value"]},
            "predictions": [{"model_version": "adaptclip", "score": row["score"], "result": list(marks(row))}],
        }


def marks(row: dict) -> Iterator[dict]:
    height, width = row["size"]
    if row["label"] is not None:
        yield {
            "id": "label",
            "from_name": "label",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [row["label"]]},
        }
    for number, region in enumerate(marked_regions(row), start=1):
        points = [[100 * x / width, 100 * y / height] for x, y in region["polygon"]]
        yield {
            "id": f"region-{number}",
            "from_name": "region",
            "to_name": "image",
            "type": "polygonlabels",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": region["peak"],
            "value": {"points": points, "closed": True, "polygonlabels": [LABEL]},
        }


def marked_regions(row: dict) -> list[dict]:
    """What is marked in an image: the regions of one that is called anomalous."""
    return row["regions"] or [] if row["label"] == ANOMALOUS else []
