"""MVTec AD's layout and its relatives: MPDD, DTD-Synthetic, BTAD (`ok`, `ko`), MVTec AD 2 and 3D-AD (`rgb`, `gt`)."""

from collections.abc import Iterator
from pathlib import Path

from .image_folders import images_in, masks_in, subfolders
from .layout import Layout, Report
from .rows import Row

NORMAL_FOLDERS = ("good", "ok")
PUBLIC = "test_public"


def category_folders(root: Path) -> list[Path]:
    """The categories of a data set, or the folder itself where it is one category."""

    def is_category(folder: Path) -> bool:
        return (folder / "train").is_dir() or (folder / "test").is_dir()

    return [root] if is_category(root) else [folder for folder in subfolders(root) if is_category(folder)]


def is_normal(folder: Path) -> bool:
    return folder.name.lower() in NORMAL_FOLDERS


def read_mvtec(root: Path, report: Report) -> Iterator[Row]:
    for category in category_folders(root):
        if not any(images_in(folder) for folder in test_and_train(category)):
            report(f"{category}: a category without an image")
        for image in [each for folder in subfolders(category / "train") for each in images_in(folder)]:
            yield Row(image, 0, category.name, "train")
        has_masks = (category / "ground_truth").is_dir()
        for folder in subfolders(category / "test"):
            images = images_in(folder)
            if is_normal(folder):
                yield from (Row(image, 0, category.name, "test") for image in images)
                continue
            masks = masks_in(category / "ground_truth" / folder.name)
            yield from anomalous_rows(images, masks, category.name, folder.name, has_masks, report)


def anomalous_rows(
    images: list[str], masks: dict[str, str], category: str, defect: str, has_masks: bool, report: Report
) -> Iterator[Row]:
    """Defective test images with their masks; an image or a mask without the other is reported."""
    stems = {Path(image).stem for image in images}
    for stem in sorted(masks.keys() - stems):
        report(f"{masks[stem]}: a mask without an image")
    for image in images:
        mask = masks.get(Path(image).stem)
        if mask is None and has_masks:
            report(f"{image}: an anomalous image without a mask")
        yield Row(image, 1, category, "test", defect, mask)


def is_mvtec(root: Path) -> bool:
    if is_mvtec_2(root):
        return False
    return any(images_in(folder) for each in category_folders(root) for folder in test_and_train(each))


def test_and_train(category: Path) -> list[Path]:
    return [*subfolders(category / "train"), *subfolders(category / "test")]


def read_mvtec_3d(root: Path, report: Report) -> Iterator[Row]:
    for category in category_folders(root):
        for folder in subfolders(category / "train"):
            yield from (Row(image, 0, category.name, "train") for image in images_in(folder / "rgb"))
        for folder in subfolders(category / "test"):
            images = images_in(folder / "rgb")
            if is_normal(folder):
                yield from (Row(image, 0, category.name, "test") for image in images)
            else:
                masks = masks_in(folder / "gt")
                yield from anomalous_rows(images, masks, category.name, folder.name, True, report)


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
        yield from anomalous_rows(images_in(test / "bad"), masks, category.name, "bad", True, report)


MVTEC_2 = Layout("CATEGORY/train/good, test_public/good, bad and ground_truth/bad", is_mvtec_2, read_mvtec_2)
MVTEC = Layout("CATEGORY/train/good, test/good, test/DEFECT, ground_truth/DEFECT/*_mask.png", is_mvtec, read_mvtec)
MVTEC_3D = Layout("CATEGORY/train/good/rgb, test/DEFECT/rgb and gt", is_mvtec_3d, read_mvtec_3d)
