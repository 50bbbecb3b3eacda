"""Data sets that come with lists: VisA (CSV), Real-IAD and Real-IAD-Variety (JSON), and `meta.json`."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from .image_folders import subfolders
from .layout import Layout, Report
from .rows import NORMAL_DEFECT, SPLITS, Row

VISA_LIST = Path("split_csv", "1cls.csv")
VIEW = re.compile(r"_(C\d+)_")


def read_visa(root: Path, report: Report) -> Iterator[Row]:
    with (root / VISA_LIST).open(newline="", encoding="utf-8") as file:
        lines = csv.DictReader(file)
        expected = {"object", "split", "label", "image", "mask"}
        if not expected <= set(lines.fieldnames or ()):
            raise ValueError(f"{root / VISA_LIST}: expected the columns {sorted(expected)}, got {lines.fieldnames}.")
        for line in lines:
            anomalous = line["label"].lower() != "normal"
            mask = str(root / line["mask"]) if anomalous and line["mask"] else None
            defect = line["label"] if anomalous else NORMAL_DEFECT
            yield Row(str(root / line["image"]), int(anomalous), line["object"], line["split"], defect, mask)


def real_iad_lists(root: Path) -> list[Path]:
    """The JSON lists, one for each category: in `realiad_jsons`, as it is unpacked, or right in the folder."""
    for folder in (root / "realiad_jsons" / "realiad_jsons", root / "realiad_jsons", root):
        lists = sorted(file for file in folder.glob("*.json") if is_real_iad_list(file))
        if lists:
            return lists
    return []


def is_real_iad_list(file: Path) -> bool:
    with file.open(encoding="utf-8") as opened:
        return '"normal_class"' in opened.read(2000)


def read_real_iad(root: Path, report: Report) -> Iterator[Row]:
    for file in real_iad_lists(root):
        content = read_json(file)
        try:
            normal_class, prefix = content["meta"]["normal_class"], content["meta"]["prefix"]
            first = next(content[split][0] for split in SPLITS if content[split])
            folder = image_root(root, Path(prefix) / first["image_path"], file) / prefix
            for split in SPLITS:
                for entry in content[split]:
                    yield real_iad_row(folder, entry, split, normal_class)
        except (KeyError, TypeError, StopIteration) as error:
            raise ValueError(f"{file} is not a list of Real-IAD: {error!r} is missing.") from error


def real_iad_row(folder: Path, entry: dict, split: str, normal_class: str) -> Row:
    image, defect = entry["image_path"], entry["anomaly_class"]
    anomalous = defect != normal_class
    view = VIEW.search(Path(image).name)
    return Row(
        str(folder / image),
        int(anomalous),
        entry["category"],
        split,
        defect if anomalous else NORMAL_DEFECT,
        str(folder / entry["mask_path"]) if anomalous and entry["mask_path"] else None,
        view[1] if view else None,
        f"{entry['category']}/{Path(image).parent.as_posix()}",
    )


def image_root(root: Path, image: Path, listed_in: Path) -> Path:
    """The folder that a list's paths are relative to: the root, or a resolution's, such as `realiad_1024`."""
    for folder in (root, *reversed(subfolders(root))):
        if (folder / image).is_file():
            return folder
    raise ValueError(f"{listed_in} lists {image}, which is neither in {root} nor in a subfolder.")


def read_meta_json(root: Path, report: Report) -> Iterator[Row]:
    content = read_json(root / "meta.json")
    for split in SPLITS:
        for category, entries in content.get(split, {}).items():
            for number, entry in enumerate(entries):
                try:
                    anomalous = bool(entry["anomaly"])
                    image, mask = entry["img_path"], entry.get("mask_path") or None
                except (KeyError, TypeError) as error:
                    where = f"{root / 'meta.json'}, {split}, {category}, entry {number}"
                    raise ValueError(f"{where}: expected img_path, mask_path and anomaly, got {entry}.") from error
                defect = (entry.get("specie_name") or "anomaly") if anomalous else NORMAL_DEFECT
                mask = str(root / mask) if anomalous and mask else None
                yield Row(str(root / image), int(anomalous), category, split, defect, mask)


def listed(read: Callable[[Path, Report], Iterator[Row]]) -> Callable[[Path, Report], Iterator[Row]]:
    """A reader that reports anomalous images without a mask, and leaves out and reports files that are not there."""

    def read_existing(root: Path, report: Report) -> Iterator[Row]:
        for row in read(root, report):
            if row.label and row.mask is None:
                report(f"{row.image}: an anomalous image without a mask")
            if missing := [path for path in (row.image, row.mask) if path and not os.path.isfile(str(path))]:  # noqa: PTH113
                report(f"{missing[0]}: listed and not there; the row is left out")
            else:
                yield row

    return read_existing


def read_json(file: Path) -> dict:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error


VISA = Layout("split_csv/1cls.csv beside the categories", lambda root: (root / VISA_LIST).is_file(), listed(read_visa))
REAL_IAD = Layout(
    "realiad_jsons/CATEGORY.json beside realiad_1024 (or another resolution)",
    lambda root: bool(real_iad_lists(root)),
    listed(read_real_iad),
)
META_JSON = Layout("meta.json with train and test", lambda root: (root / "meta.json").is_file(), listed(read_meta_json))
