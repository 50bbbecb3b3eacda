"""Which image files some paths, folders and patterns mean."""

import glob
from collections.abc import Iterable
from pathlib import Path

from PIL import Image


def image_suffixes() -> set[str]:
    """The file endings of the formats that Pillow reads here."""
    Image.init()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN and name != "PDF"}


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Files as they are named, every image below a folder, every match of a pattern; sorted within each, each once.

    A file that is named is kept whatever its ending, and kept if it does not exist: reading it reports that.

    Raises:
        ValueError: for a folder without images, or a pattern that matches nothing.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            suffixes = image_suffixes()
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
            if not files:
                raise ValueError(f"The folder {path} holds no image file.")
        elif not path.exists() and glob.has_magic(str(path)):
            files = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207
            if not files:
                raise ValueError(f"Nothing matches {path}.")
        else:
            files = [path]
        found.extend(files)
    return list(dict.fromkeys(found))


def unique_names(paths: list[Path]) -> list[str]:
    """A flat file name without ending for each path: its stem, or where stems collide its parents' names as well."""
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    names, taken = [], set()
    for path in paths:
        base = "_".join([*path.parts[-3:-1], path.stem]).strip("/._") or path.stem
        name, number = base, 2
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name)
        names.append(name)
    return names
