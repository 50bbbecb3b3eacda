"""What counts as an image file, and which ones some paths, folders and patterns mean."""

import glob
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

# of the formats that Pillow opens those that cameras and programs keep pictures in: no data, films, pages or icons
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP")


@cache
def image_suffixes() -> frozenset[str]:
    """The file endings of the picture formats that Pillow reads here, in lower case."""
    from PIL import Image

    Image.init()
    endings = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in endings if name in FORMATS and name in Image.OPEN)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: by its ending, hidden ones such as `._x.jpg` left out."""
    return not name.startswith(".") and Path(name).suffix.lower() in image_suffixes()


def images_below(folder: Path, leave_out: Path | None = None) -> Iterator[Path]:
    """Every image below a folder, sorted, without those in hidden folders and in `leave_out`."""
    for file in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        inside = leave_out is not None and file.absolute().is_relative_to(leave_out.absolute())
        if is_image_name(file.name) and not hidden and not inside and file.is_file():
            yield file


def find_images(paths: Iterable[str | Path], leave_out: Path | None = None) -> list[Path]:
    """Files as they are named, every image below a folder, every match of a pattern; sorted within each, each once.

    A file that is named is kept whatever its ending, and kept if it does not exist: reading it reports that.

    Args:
        leave_out: a folder whose images folders and patterns do not mean: the call's own output.

    Raises:
        ValueError: for a folder without images, or a pattern that matches nothing.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            files = list(images_below(path, leave_out))
            if not files:
                raise ValueError(f"The folder {path} holds no image file.")
        elif not path.exists() and glob.has_magic(str(path)):
            files = sorted(Path(match) for match in glob.glob(str(path), recursive=True))  # noqa: PTH207
            if leave_out is not None:
                files = [file for file in files if not file.absolute().is_relative_to(leave_out.absolute())]
            files = [file for file in files if not file.is_dir()]
            if not files:
                raise ValueError(f"Nothing matches {path}.")
        else:
            files = [path]
        found.extend(files)
    return list(dict.fromkeys(found))
