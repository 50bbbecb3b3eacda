"""What counts as an image file, and which images paths, folders and patterns name."""

import glob
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from .processing.image_opening import FORMATS as FORMATS
from .processing.image_opening import OF_JPEG, formats


@cache
def image_suffixes() -> frozenset[str]:
    """The file endings of the picture formats that Pillow reads here, in lower case."""
    from PIL import Image

    opened = (*formats(), OF_JPEG)
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in opened)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: by its ending, hidden ones such as `._x.jpg` left out."""
    return not name.startswith(".") and Path(name).suffix.lower() in image_suffixes()


def images_below(folder: Path, leave_out: Path | None = None) -> Iterator[Path]:
    """Every image below a folder, sorted, without those in hidden folders and in `leave_out`; a folder at a time."""
    if leave_out is not None and folder.absolute().is_relative_to(leave_out.absolute()):
        return
    with os.scandir(folder) as opened:
        entries = sorted(opened, key=lambda entry: entry.name)
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):
                yield from images_below(path, leave_out)
        elif is_image_name(entry.name) and entry.is_file():
            yield path


class ImageFiles(Iterable[Path]):
    """Files as they are named, every image below a folder, every match of a pattern; sorted within each.

    A file that is named is kept whatever its ending, and kept if it does not exist: reading it reports that.

    Args:
        leave_out: a folder whose images folders and patterns do not mean: the call's own output.

    Raises:
        ValueError: for a folder without images, or a pattern that matches nothing.
    """

    def __init__(self, paths: Iterable[str | Path], leave_out: Path | None = None):
        self.paths, self.leave_out = [Path(path) for path in paths], leave_out
        for path in self.paths:
            if next(self._files_of(path), None) is None:
                raise ValueError(
                    f"The folder {path} holds no image file." if path.is_dir() else f"Nothing matches {path}."
                )

    def __iter__(self) -> Iterator[Path]:
        for path in self.paths:
            yield from self._files_of(path)

    def _files_of(self, path: Path) -> Iterator[Path]:
        if path.is_dir():
            yield from images_below(path, self.leave_out)
        elif not path.exists() and glob.has_magic(str(path)):
            for file in sorted(Path(match) for match in glob.glob(str(path), recursive=True)):  # noqa: PTH207
                inside = self.leave_out is not None and file.absolute().is_relative_to(self.leave_out.absolute())
                if not inside and not file.is_dir():
                    yield file
        else:
            yield path


def find_images(paths: Iterable[str | Path], leave_out: Path | None = None) -> list[Path]:
    """What [`ImageFiles`] names, each once."""
    return list(dict.fromkeys(ImageFiles(paths, leave_out)))
