"""Lists folders of images without opening a file."""

import os
from pathlib import Path

from ..image_files import FolderWalk
from .words import is_of_masks, label_of_name

MASK_ENDINGS = ("_mask", "_label", "_gt", "_GT")


class LayoutWalk(FolderWalk):
    """Lists one folder; links to folders are followed, since data sets are often put together of links."""

    follow_links = True


def entries_of(folder: Path) -> list[tuple[str, bool]]:
    """Paths of the images and folders right below, sorted, and whether each is a folder; none where it is not there."""
    return (LayoutWalk().entries_or_none(str(folder)) or []) if folder.is_dir() else []


def subfolders(folder: Path) -> list[Path]:
    """The folders right below, sorted; none where there is no such folder."""
    return [Path(path) for path, is_folder in entries_of(folder) if is_folder]


def images_in(folder: Path) -> list[str]:
    """Paths of the image files right below, sorted; none where there is no such folder."""
    return [path for path, is_folder in entries_of(folder) if not is_folder]


def images_below(folder: Path, label: int) -> list[str]:
    """Paths of the images of a label, 0 or 1, below a folder of that label.

    Subfolders of masks are left out, and those whose names mean the other label.
    """

    def is_meant(path: str) -> bool:
        above = Path(path).relative_to(folder).parts[:-1]
        return not any(is_of_masks(name) or (not name.isdigit() and label_of_name(name) == 1 - label) for name in above)

    return [path for path in FolderWalk().images_below(str(folder)) if is_meant(path)] if folder.is_dir() else []


def masks_in(folder: Path) -> dict[str, str]:
    """{stem of the image: path of its mask}; a mask has its image's stem, perhaps with `_mask`, `_label` or `_gt`."""
    return {stem_of_mask(Path(path)): path for path in images_in(folder)}


def masks_below(folder: Path) -> dict[str, str]:
    """As [`masks_in`], with those in subfolders: `{"day1/000": path}`."""
    if not folder.is_dir():
        return {}
    paths = FolderWalk().images_below(str(folder))
    return {key_of(path, folder, stem_of_mask(Path(path))): path for path in paths}


def key_of(path: str, folder: Path, stem: str | None = None) -> str:
    """The name by which an image below a folder and its mask find one another: its path there without the ending."""
    place = Path(path).relative_to(folder).parent
    return (place / (Path(path).stem if stem is None else stem)).as_posix()


def stem_of_mask(path: Path) -> str:
    ending = next((each for each in MASK_ENDINGS if path.stem.endswith(each)), "")
    return path.stem.removesuffix(ending)


def find_subfolder(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first subfolder with one of these names, in upper or lower case."""
    found = {each.name.lower(): each for each in subfolders(folder)}
    return next((found[name] for name in names if name in found), None)


def need_subfolder(folder: Path, names: tuple[str, ...]) -> Path:
    """As [`find_subfolder`].

    Raises:
        FileNotFoundError: there is none.
    """
    found = find_subfolder(folder, names)
    if found is None:
        raise FileNotFoundError(f"{folder} has no subfolder {' or '.join(names)}.")
    return found


def labelled_subfolders(folder: Path, label: int) -> list[Path]:
    """The subfolders whose names mean good (0) or bad (1), sorted."""
    return [each for each in subfolders(folder) if label_of_name(each.name) == label]


def name_in(folder: Path, name: str) -> Path:
    """The subfolder of a name in upper or lower case, or where it would be."""
    exact = folder / name
    return exact if exact.is_dir() else find_subfolder(folder, (name,)) or exact


def count_by_folder(paths: list[str]) -> dict[str, int]:
    """How many of some files lie right in each folder, in their order."""
    counts: dict[str, int] = {}
    for path in paths:
        folder = os.path.dirname(path)  # noqa: PTH120
        counts[folder] = counts.get(folder, 0) + 1
    return counts
