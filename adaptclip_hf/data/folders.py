"""Data sets of a few plain folders: good and bad, KolektorSDD, Br35H, COVID-19 chest X-rays, Kvasir, Endo."""

from collections.abc import Callable, Iterator
from pathlib import Path

from ..processing.image_loading import load_mask
from .image_folders import find_subfolder, images_in, masks_in, need_subfolder, subfolders
from .layout import Layout, Report
from .mvtec import anomalous_rows
from .rows import Row

GOOD, BAD = ("good", "ok", "normal"), ("bad", "ng", "ko", "defect", "defective", "anomaly", "anomalous")
MASK_FOLDERS = ("masks", "mask", "ground_truth", "ground truth")
IMAGE_FOLDERS = ("images", "image", "original")
KEPT_FOR_TEST = 4


def is_good_and_bad(root: Path) -> bool:
    return bool(find_subfolder(root, GOOD) and find_subfolder(root, BAD))


def read_good_and_bad(root: Path, report: Report) -> Iterator[Row]:
    """Of the good images, sorted by name, every other one is for training; all others are for testing."""
    bad = need_subfolder(root, BAD)
    for index, image in enumerate(images_in(need_subfolder(root, GOOD))):
        yield Row(image, 0, root.name, "test" if index % 2 else "train")
    mask_folder = find_subfolder(root, MASK_FOLDERS)
    if mask_folder:
        mask_folder = find_subfolder(mask_folder, BAD) or mask_folder
    masks = masks_in(mask_folder) if mask_folder else {}
    yield from anomalous_rows(images_in(bad), masks, root.name, bad.name, bool(mask_folder), report)


def read_ksdd(root: Path, report: Report) -> Iterator[Row]:
    """KolektorSDD is published without a split: every fourth good image is kept for the test."""
    good = 0
    for folder in subfolders(root):
        masks = masks_in(folder)
        for image in images_in(folder):
            if Path(image).stem.endswith("_label"):
                continue
            mask = masks[Path(image).stem]
            if mask == image:
                report(f"{image}: left out, there is no {Path(image).stem}_label beside it to say what it is")
            elif load_mask(mask).any():
                yield Row(image, 1, "kolektor_sdd", "test", "defect", mask)
            else:
                good += 1
                yield Row(image, 0, "kolektor_sdd", "train" if good % KEPT_FOR_TEST else "test")


def two_classes(
    category: str, normal: tuple[str, ...], anomalous: tuple[str, ...]
) -> tuple[Callable[[Path], bool], Callable[[Path, Report], Iterator[Row]]]:
    """Recognises and reads a normal and an anomalous folder of test images without masks."""

    def recognise(root: Path) -> bool:
        return bool(find_subfolder(root, normal) and find_subfolder(root, anomalous))

    def read(root: Path, report: Report) -> Iterator[Row]:
        for label, names in enumerate((normal, anomalous)):
            folder = need_subfolder(root, names)
            defect = folder.name if label else "good"
            yield from (
                Row(image, label, category, "test", defect)
                for image in images_in(folder) or images_in(folder / "images")
            )

    return recognise, read


def is_polyps(root: Path) -> bool:
    has_both = find_subfolder(root, IMAGE_FOLDERS) and find_subfolder(root, MASK_FOLDERS)
    return bool(has_both) and not is_good_and_bad(root)


def read_polyps(root: Path, report: Report) -> Iterator[Row]:
    """Images and masks with the same names; all images are anomalous."""
    images, masks = images_in(need_subfolder(root, IMAGE_FOLDERS)), masks_in(need_subfolder(root, MASK_FOLDERS))
    return anomalous_rows(images, masks, root.name, "polyp", True, report)


def has_parts(root: Path) -> bool:
    """Whether there are KolektorSDD's folders of parts, each with its label."""
    return any(Path(path).stem.endswith("_label") for folder in subfolders(root)[:3] for path in images_in(folder))


GOOD_AND_BAD = Layout("good/ and bad/, perhaps masks/", is_good_and_bad, read_good_and_bad)
KSDD = Layout("kos01/Part0.jpg with Part0_label.bmp beside it", has_parts, read_ksdd)
BR35H = Layout("no/ and yes/", *two_classes("brain", ("no",), ("yes",)))
COVID = Layout(
    "NORMAL/ and COVID-19/ (other classes are left out)",
    *two_classes("chest", ("normal",), ("covid-19", "covid", "covid19")),
)
POLYPS = Layout("images/ and masks/, or Original/ and Ground Truth/, without good/ and bad/", is_polyps, read_polyps)
