"""Data sets that come with lists: VisA (CSV), Real-IAD and Real-IAD-Variety (JSON), and `meta.json`."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType

from ..files import parse_json
from ..listings import open_rows
from .image_folders import subfolders
from .layout import Layout, Report
from .rows import NORMAL_DEFECT, SPLITS, Row
from .words import label_of_name

VISA_LIST = Path("split_csv", "1cls.csv")
VIEW = re.compile(r"_(C\d+)_")


def read_visa(root: Path, report: Report) -> Iterator[Row]:
    for where, line in open_rows(root / VISA_LIST, ["object", "split", "label", "image", "mask"]):
        require(where, line["split"] in SPLITS, f"expected the split train or test, got {line['split']!r}")
        require(where, bool(line["label"]), "the label is empty")
        anomalous = label_of_name(line["label"]) != 0
        mask = below(root, line["mask"], f"{where}, mask") if anomalous and line["mask"] else None
        defect = line["label"] if anomalous else NORMAL_DEFECT
        image = below(root, line["image"], f"{where}, image")
        yield Row(image, int(anomalous), line["object"], line["split"], defect, mask)


def real_iad_lists(root: Path) -> list[Path]:
    """The JSON lists, one for each category: in `realiad_jsons`, as it is unpacked, or right in the folder."""
    for folder in (root / "realiad_jsons" / "realiad_jsons", root / "realiad_jsons", root):
        lists = sorted(file for file in folder.glob("*.json") if is_real_iad_list(file))
        if lists:
            return lists
    return []


def is_real_iad_list(file: Path) -> bool:
    if not file.is_file():  # a pipe, for one
        return False
    with file.open("rb") as opened:
        return b'"normal_class"' in opened.read(2000)


def read_real_iad(root: Path, report: Report) -> Iterator[Row]:
    for file in real_iad_lists(root):
        content = read_json(file)
        meta = field(content, "meta", dict, f"{file}")
        normal_class = field(meta, "normal_class", str, f"{file}, meta")
        prefix = field(meta, "prefix", str, f"{file}, meta")
        entries = [
            (split, f"{file}, {split}, entry {number}", entry)
            for split in SPLITS
            for number, entry in enumerate(field(content, split, list, f"{file}"))
        ]
        require(f"{file}", bool(entries), "it lists no image")
        _, where, first = entries[0]
        folder = image_root(root, Path(prefix) / field(first, "image_path", str, where), file)
        for split, where, entry in entries:
            yield real_iad_row(folder, prefix, entry, split, normal_class, where)


def real_iad_row(root: Path, prefix: str, entry: dict, split: str, normal_class: str, where: str) -> Row:
    image, defect = (field(entry, name, str, where) for name in ("image_path", "anomaly_class"))
    category, mask = field(entry, "category", str, where), field(entry, "mask_path", str | None, where)
    anomalous = defect != normal_class
    view = VIEW.search(Path(image).name)
    return Row(
        below(root, f"{prefix}/{image}", f"{where}, image_path"),
        int(anomalous),
        category,
        split,
        defect if anomalous else NORMAL_DEFECT,
        below(root, f"{prefix}/{mask}", f"{where}, mask_path") if anomalous and mask else None,
        view[1] if view else None,
        f"{category}/{Path(image).parent.as_posix()}",
    )


def image_root(root: Path, image: Path, listed_in: Path) -> Path:
    """The folder that a list's paths are relative to: the root, or a resolution's, such as `realiad_1024`."""
    for folder in (root, *reversed(subfolders(root))):
        if (folder / image).is_file():
            return folder
    raise ValueError(f"{listed_in} lists {image}, which is neither in {root} nor in a subfolder.")


def read_meta_json(root: Path, report: Report) -> Iterator[Row]:
    file = root / "meta.json"
    content = read_json(file)
    for split in SPLITS:
        for category, entries in field(content, split, dict | None, f"{file}", {}).items():
            for number, entry in enumerate(field({category: entries}, category, list, f"{file}, {split}")):
                yield meta_row(root, entry, category, split, f"{file}, {split}, {category}, entry {number}")


def meta_row(root: Path, entry: dict, category: str, split: str, where: str) -> Row:
    require(
        where,
        isinstance(entry, dict) and {"img_path", "anomaly"} <= entry.keys(),
        f"expected img_path, mask_path and anomaly, got {str(entry)[:200]}",
    )
    anomalous = entry["anomaly"] in (0, 1) and bool(entry["anomaly"])
    require(where, entry["anomaly"] in (0, 1), f"expected an anomaly of 0 or 1, got {str(entry['anomaly'])[:40]}")
    image, mask = field(entry, "img_path", str, where), field(entry, "mask_path", str | None, where)
    kind = field(entry, "specie_name", str | None, where)
    return Row(
        below(root, image, f"{where}, img_path"),
        int(anomalous),
        category,
        split,
        (kind or "anomaly") if anomalous else NORMAL_DEFECT,
        below(root, mask, f"{where}, mask_path") if anomalous and mask else None,
    )


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
    """
    Raises:
        OSError: it cannot be opened.
        ValueError: it is not JSON, or no object.
    """
    try:
        content = parse_json(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    require(f"{file}", isinstance(content, dict), "expected an object { } at its top")
    return content


def field(entry: dict, name: str, kind: type | UnionType, where: str, otherwise=None):
    """A field's value. One that is null or not there is `otherwise`, where `kind` allows `None`.

    Raises:
        ValueError: it is not there or of another type; names file and field.
    """
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, kind):
        names = {str: "a text", dict: "an object", list: "a list"}
        expected = next(words for each, words in names.items() if issubclass(each, kind))
        raise ValueError(f"{where}: expected {expected} as {name}, got {str(value)[:80]!r}.")
    return otherwise if value is None else value


def require(where: str, condition: bool, message: str):
    if not condition:
        raise ValueError(f"{where}: {message}.")


def below(root: Path, path: str, where: str) -> str:
    """The path of a file that a list names, which lies below the data set's folder.

    Raises:
        ValueError: it leads out of the folder, or is no path.
    """
    file = os.path.normpath(root / path)
    if "\0" in path or not Path(file).is_relative_to(os.path.normpath(root)):
        raise ValueError(f"{where}: {path[:200]!r} leads out of {root}; expected a path below it.")
    return str(root / path)


VISA = Layout("split_csv/1cls.csv beside the categories", lambda root: (root / VISA_LIST).is_file(), listed(read_visa))
REAL_IAD = Layout(
    "realiad_jsons/CATEGORY.json beside realiad_1024 (or another resolution)",
    lambda root: bool(real_iad_lists(root)),
    listed(read_real_iad),
)
META_JSON = Layout("meta.json with train and test", lambda root: (root / "meta.json").is_file(), listed(read_meta_json))
