"""What lies in a data set's folder and is in no row: counted and named, so that nothing vanishes."""

import os
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from ..image_files import HIDDEN, LINKED, SYSTEM, FolderWalk
from ..passed_over import PassedOver
from .image_folders import count_by_folder
from .layout import Layout, Report
from .words import is_of_masks, label_of_name

SHOWN = 20  # folders


def report_unread(root: Path, layout: Layout, used: set[str], report: Report):
    """Reports images that are in no row, by folder, and what is passed over.

    Args:
        used: paths of the images and masks of all rows.
    """
    if layout.left_out is None:
        return
    passed_over = PassedOver(report)
    folders_used = {os.path.dirname(path) for path in used}  # noqa: PTH120
    linked = [str(root)]

    def pass_over(path: str, reason: str):
        if reason == LINKED and any(each == path or each.startswith(path + os.sep) for each in folders_used):
            linked.append(path)  # the layout's own reader went there
        elif reason != HIDDEN and not reason.startswith("no images") and (reason != SYSTEM or os.path.isdir(path)):  # noqa: PTH112
            passed_over(path, reason)

    def below(folder: str) -> Path:
        return Path(folder).relative_to(root)

    unread, walk = [], FolderWalk(passed_over=pass_over)
    for folder in linked:  # grows meanwhile
        unread += [path for path in walk.images_below(folder) if path not in used]
    counts = {
        folder: count
        for folder, count in count_by_folder(unread).items()
        if not is_left_out(below(folder), layout.left_out)
    }
    for folder, count in list(counts.items())[:SHOWN]:
        report(f"{folder}: {count} images are left out, {why_unread(below(folder).parts)}")
    if len(counts) > SHOWN:
        rest = list(counts.values())[SHOWN:]
        report(f"{root}: {sum(rest)} images in {len(rest)} more folders are left out")
    passed_over.tell()


def is_left_out(folder: Path, patterns: Iterable[str]) -> bool:
    """Whether a folder, or one above it, matches a pattern."""
    return any(fnmatch(f"{folder.as_posix().lower()}/", f"{pattern}/*") for pattern in patterns)


def why_unread(parts: tuple[str, ...]) -> str:
    """Why the images of a folder are in no row, as far as names tell."""
    if any(map(is_of_masks, parts)):
        return "since they lie in a folder of masks"
    labels = {label_of_name(part) for part in parts if not part.isdigit()} - {None}
    if labels == {0, 1}:
        return "since the names of their folders mean good and bad at once"
    if "train" in map(str.lower, parts) and labels == {1}:
        return "since train holds the good images that others are compared with"
    if labels:
        return "since the layout has no such folder"
    return "since no name says whether they are good or bad: name their folder good, bad or a kind of defect"
