"""Lists folders of images without opening a file."""

import os
from pathlib import Path

from ..image_files import is_image_name

MASK_ENDINGS = ("_mask", "_label", "_gt", "_GT")


def subfolders(folder: Path) -> list[Path]:
    """The folders right below, sorted, hidden ones left out; none where there is no such folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(each.path) for each in entries if each.is_dir() and not each.name.startswith("."))


def images_in(folder: Path) -> list[str]:
    """Paths of the image files right below, sorted, hidden ones left out; none where there is no such folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(each.path for each in entries if is_image_name(each.name))


def masks_in(folder: Path) -> dict[str, str]:
    """{stem of the image: path of its mask}; a mask has its image's stem, perhaps with `_mask`, `_label` or `_gt`."""
    masks = {}
    for path in images_in(folder):
        stem = Path(path).stem
        ending = next((each for each in MASK_ENDINGS if stem.endswith(each)), "")
        masks[stem.removesuffix(ending)] = path
    return masks


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
