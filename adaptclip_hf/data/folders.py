"""Data sets of a few plain folders: good and bad, KolektorSDD, Br35H, COVID-19 chest X-rays, Kvasir, Endo."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from ..processing.image_loading import load_mask
from .image_folders import (
    find_subfolder,
    images_below,
    images_in,
    key_of,
    labelled_subfolders,
    masks_below,
    masks_in,
    need_subfolder,
    subfolders,
)
from .layout import Layout, Report
from .mvtec import anomalous_rows
from .rows import Row
from .words import label_of_name

MASK_FOLDERS = ("masks", "mask", "ground_truth", "ground truth")
IMAGE_FOLDERS = ("images", "image", "original")
KEPT_FOR_TEST = 4


def is_good_and_bad(root: Path) -> bool:
    return bool(labelled_subfolders(root, 0) and labelled_subfolders(root, 1))


def read_good_and_bad(root: Path, report: Report) -> Iterator[Row]:
    """Of the good images, sorted by name, every other one is for training; all others are for testing."""
    good = [image for folder in labelled_subfolders(root, 0) for image in images_below(folder, 0)]
    for index, image in enumerate(good):
        yield Row(image, 0, root.name, "test" if index % 2 else "train")
    truth, bad = find_subfolder(root, MASK_FOLDERS), labelled_subfolders(root, 1)
    places = {folder: place_of_masks(truth, folder, len(bad) == 1) for folder in bad}
    for place in dict.fromkeys(places.values()):
        folders = [folder for folder in bad if places[folder] == place]
        yield from bad_rows(root, folders, place, report)


def place_of_masks(truth: Path | None, folder: Path, is_only: bool) -> Path | None:
    """Where the masks of a folder lie: in a subfolder of its name, of any name for bad if it is the only one, or all
    together."""
    if truth is None:
        return None
    named = find_subfolder(truth, (folder.name.lower(),))
    return named or (next(iter(labelled_subfolders(truth, 1)), truth) if is_only else truth)


def bad_rows(root: Path, folders: list[Path], place: Path | None, report: Report) -> Iterator[Row]:
    """The rows of folders whose masks lie together."""
    images = {folder: images_below(folder, 1) for folder in folders}
    counts = Counter(key_of(image, folder) for folder in folders for image in images[folder])
    masks = {} if place is None else masks_below(place)
    if place is not None and place.name.lower() in MASK_FOLDERS:  # what lies in a subfolder of its own is another's
        masks = {key: mask for key, mask in masks.items() if label_of_name(key.split("/")[0]) is None or "/" not in key}
    for key, mask in masks.items():
        if not counts[key]:
            report(f"{mask}: a mask without an image")
        elif counts[key] > 1:
            report(f"{mask}: left out, {counts[key]} images of {root} have its name")
    for folder in folders:
        keys = {key_of(image, folder) for image in images[folder]}
        mine = {key: mask for key, mask in masks.items() if key in keys and counts[key] == 1}
        yield from anomalous_rows(folder, images[folder], mine, root.name, folder.name, place is not None, report)


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
    folder, masks = need_subfolder(root, IMAGE_FOLDERS), masks_in(need_subfolder(root, MASK_FOLDERS))
    return anomalous_rows(folder, images_in(folder), masks, root.name, "polyp", True, report)


def has_parts(root: Path) -> bool:
    """Whether there are KolektorSDD's folders of parts, each with its label."""
    return any(Path(path).stem.endswith("_label") for folder in subfolders(root)[:3] for path in images_in(folder))


GOOD_AND_BAD = Layout("good/ and bad/, perhaps masks/", is_good_and_bad, read_good_and_bad, left_out=MASK_FOLDERS)
KSDD = Layout("kos01/Part0.jpg with Part0_label.bmp beside it", has_parts, read_ksdd)
BR35H = Layout("no/ and yes/", *two_classes("brain", ("no",), ("yes",)))
COVID = Layout(
    "NORMAL/ and COVID-19/ (other classes are left out)",
    *two_classes("chest", ("normal",), ("covid-19", "covid", "covid19")),
)
POLYPS = Layout(
    "images/ and masks/, or Original/ and Ground Truth/, without good/ and bad/",
    is_polyps,
    read_polyps,
    left_out=MASK_FOLDERS,
)
