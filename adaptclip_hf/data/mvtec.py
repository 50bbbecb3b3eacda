"""MVTec AD's layout and its relatives: MPDD, DTD-Synthetic, BTAD (`ok`, `ko`), MVTec AD 2 and 3D-AD (`rgb`, `gt`)."""

from collections.abc import Iterator
from pathlib import Path

from ..image_files import FolderWalk
from .image_folders import (
    images_below,
    images_in,
    key_of,
    labelled_subfolders,
    masks_below,
    masks_in,
    name_in,
    subfolders,
)
from .layout import Layout, Report
from .rows import Row
from .words import is_neutral, label_of_name

PUBLIC = "test_public"
LEFT_OUT = ("validation", "*/validation", "ground_truth", "*/ground_truth")


def category_folders(root: Path) -> list[Path]:
    """The categories of a data set, or the folder itself where it is one category."""

    def is_category(folder: Path) -> bool:
        return name_in(folder, "train").is_dir() or name_in(folder, "test").is_dir()

    return [root] if is_category(root) else [folder for folder in subfolders(root) if is_category(folder)]


def is_normal(folder: Path) -> bool:
    return label_of_name(folder.name) == 0


def normal_folders(category: Path) -> list[Path]:
    """Of the train split: those whose names mean good. What is in others is left out."""
    return labelled_subfolders(name_in(category, "train"), 0)


def test_folders(category: Path) -> list[Path]:
    """Of the test split: good images, and one kind of defect each. A name that says nothing is left out."""
    return [each for each in subfolders(name_in(category, "test")) if not is_neutral(each.name)]


def read_mvtec(root: Path, report: Report) -> Iterator[Row]:
    for category in category_folders(root):
        if not any(has_images(folder) for folder in test_and_train(category)):
            report(f"{category}: a category without an image")
        for folder in normal_folders(category):
            yield from (Row(image, 0, category.name, "train") for image in images_below(folder, 0))
        truth = name_in(category, "ground_truth")
        for folder in test_folders(category):
            if is_normal(folder):
                yield from (Row(image, 0, category.name, "test") for image in images_below(folder, 0))
                continue
            masks = masks_below(name_in(truth, folder.name))
            images = images_below(folder, 1)
            yield from anomalous_rows(folder, images, masks, category.name, folder.name, truth.is_dir(), report)


def anomalous_rows(
    folder: Path,
    images: list[str],
    masks: dict[str, str],
    category: str,
    defect: str,
    has_masks: bool,
    report: Report,
) -> Iterator[Row]:
    """Defective test images below a folder with their masks; an image or a mask without the other is reported."""
    keys = [key_of(image, folder) for image in images]
    for key in sorted(masks.keys() - set(keys)):
        report(f"{masks[key]}: a mask without an image")
    for key, image in zip(keys, images, strict=True):
        mask = masks.get(key)
        if mask is None and has_masks:
            report(f"{image}: an anomalous image without a mask")
        yield Row(image, 1, category, "test", defect, mask)


def is_mvtec(root: Path) -> bool:
    if is_mvtec_2(root):
        return False
    return any(has_images(folder) for each in category_folders(root) for folder in test_and_train(each))


def has_images(folder: Path) -> bool:
    return next(FolderWalk().images_below(str(folder)), None) is not None


def test_and_train(category: Path) -> list[Path]:
    return [*subfolders(name_in(category, "train")), *subfolders(name_in(category, "test"))]


def read_mvtec_3d(root: Path, report: Report) -> Iterator[Row]:
    for category in category_folders(root):
        for folder in normal_folders(category):
            yield from (Row(image, 0, category.name, "train") for image in images_in(folder / "rgb"))
        for folder in test_folders(category):
            images = images_in(folder / "rgb")
            if is_normal(folder):
                yield from (Row(image, 0, category.name, "test") for image in images)
            else:
                masks = masks_in(folder / "gt")
                rgb = folder / "rgb"
                yield from anomalous_rows(rgb, images, masks, category.name, folder.name, True, report)


def is_mvtec_3d(root: Path) -> bool:
    return any((folder / "rgb").is_dir() for each in category_folders(root) for folder in test_and_train(each))


def is_mvtec_2(root: Path) -> bool:
    return any((each / PUBLIC).is_dir() for each in category_folders(root))


def read_mvtec_2(root: Path, report: Report) -> Iterator[Row]:
    """The public test images; validation images, and private ones, which have no labels, are left out."""
    for category in category_folders(root):
        for image in images_in(category / "train" / "good"):
            yield Row(image, 0, category.name, "train")
        test = category / PUBLIC
        if not test.is_dir():
            report(f"{category}: no {PUBLIC}, and so no test image with a label")
        yield from (Row(image, 0, category.name, "test") for image in images_in(test / "good"))
        masks = masks_in(test / "ground_truth" / "bad")
        yield from anomalous_rows(test / "bad", images_in(test / "bad"), masks, category.name, "bad", True, report)


MVTEC_2 = Layout(
    "CATEGORY/train/good, test_public/good, bad and ground_truth/bad",
    is_mvtec_2,
    read_mvtec_2,
    left_out=(*LEFT_OUT, "test_private*", "*/test_private*"),
)
MVTEC = Layout(
    "CATEGORY/train/good, test/good, test/DEFECT, ground_truth/DEFECT/*_mask.png",
    is_mvtec,
    read_mvtec,
    left_out=LEFT_OUT,
)
MVTEC_3D = Layout(
    "CATEGORY/train/good/rgb, test/DEFECT/rgb and gt", is_mvtec_3d, read_mvtec_3d, left_out=(*LEFT_OUT, "*/gt", "*/xyz")
)
