"""MVTec LOCO AD and AutoVI: a folder of masks for each anomalous image, and a list of defects beside them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..processing.image_loading import load_mask
from .image_folders import images_below, images_in, name_in, subfolders
from .layout import Layout, Report
from .mvtec import LEFT_OUT, category_folders, is_normal, normal_folders, test_folders
from .rows import Mask, Row, as_mask

DEFECTS_LIST = "defects_config.json"


def has_folders_of_masks(category: Path) -> bool:
    truth = name_in(category, "ground_truth")
    if truth.is_dir() and (category / DEFECTS_LIST).is_file():
        return True
    test = name_in(category, "test")
    folders = (test / defect.name / each.name for defect in subfolders(truth) for each in subfolders(defect))
    return any(not folder.is_dir() for folder in folders)  # where images lie in such folders too, masks do as they do


def read_loco(root: Path, report: Report) -> Iterator[Row]:
    """Validation images are left out: they are meant for setting thresholds."""
    for category in category_folders(root):
        for folder in normal_folders(category):
            yield from (Row(image, 0, category.name, "train") for image in images_below(folder, 0))
        for folder in test_folders(category):
            for image in images_in(folder):
                if is_normal(folder):
                    yield Row(image, 0, category.name, "test")
                    continue
                mask = union(name_in(category, "ground_truth") / folder.name / Path(image).stem)
                if mask is None:
                    report(f"{image}: an anomalous image without a mask")
                yield Row(image, 1, category.name, "test", folder.name, mask)


def union(folder: Path) -> Mask | None:
    """The masks of an image as one: where any of them is above 0. `None` without any."""
    files = images_in(folder)
    if len(files) < 2:
        return files[0] if files else None
    return as_mask(str(folder), np.logical_or.reduce([load_mask(file) for file in files]))


LOCO = Layout(
    "CATEGORY/train/good, test/good, test/DEFECT, ground_truth/DEFECT/IMAGE/*.png, defects_config.json",
    lambda root: any(map(has_folders_of_masks, category_folders(root))),
    read_loco,
    left_out=LEFT_OUT,
)
