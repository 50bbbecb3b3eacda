"""Which folders hold pictures that this package wrote: they are never taken for photos, wherever they lie."""

import os
from pathlib import Path

# a folder's name, and what lies beside it where we wrote it: one of these
PICTURES = {
    "heatmaps": ("detect.json",),
    "maps": ("detect.json",),
    "plots": ("prompts.json", "progress/data_sets.json"),  # of an evaluation, finished or not
}


def is_own_folder(folder: str) -> bool:
    """Whether a folder is one of pictures that a run or an evaluation wrote.

    Args:
        folder: a path that ends with the folder's own name, not a link's.
    """
    parent, name = os.path.split(folder)
    return any(os.path.isfile(os.path.join(parent, mark)) for mark in PICTURES.get(name, ()))  # noqa: PTH113, PTH118


def lies_in_own_folder(path: str | Path) -> bool:
    """Whether a file or folder is, or lies in, a folder of pictures that this package wrote; links are followed."""
    resolved = Path(os.path.realpath(path))
    return any(is_own_folder(str(each)) for each in (resolved, *resolved.parents))
