"""The pictures of a report: photos by where they lay or lie now, heatmaps from the folder of results alone."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..engine.heatmap import data_url
from ..files import inside
from ..processing.image_opening import read_rgb
from ..runs.folder import is_remote
from ..runs.folder_content import picture_of
from ..runs.stamps import UNKNOWN

LONGEST_SIDE = 480  # pixels of a picture on the page
NEAREST_SIDE = 160  # of the good photo that is most like it
QUALITY = 82


class GivesPictures(Protocol):
    """What a gallery takes the pictures of its rows from."""

    def photo(self, row: dict) -> str | None:
        """A row's photo as a data URL."""

    def heatmap(self, row: dict) -> str | None:
        """A row's map over its photo as a data URL."""

    def nearest(self, row: dict) -> str | None:
        """The good photo that is most like a row's as a data URL."""


@dataclass
class Pictures:
    """Small copies of the pictures of a folder of results. Nothing is fetched, and no address is followed.

    Attributes:
        folder: of the results, wherever it lies now.
        missing_photos, missing_heatmaps: paths of those that are not there any more, or cannot be read.
        elsewhere: addresses of photos that are not on this machine.
        nearest_ones: good photos that were looked for, by their names.
    """

    folder: Path
    missing_photos: list[str] = field(default_factory=list)
    missing_heatmaps: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    nearest_ones: dict[str, str | None] = field(default_factory=dict)

    def photo(self, row: dict) -> str | None:
        """A row's photo as a data URL."""
        if is_remote(row["path"]):
            self.elsewhere.append(row["path"])
            return None
        for file in self._places(row):
            if is_same_size(file, row["bytes"]) and (shown := small_copy(file)) is not None:
                return shown
        self.missing_photos.append(row["path"])
        return None

    def heatmap(self, row: dict) -> str | None:
        """A row's heatmap as a data URL; only what lies in the folder counts."""
        if row["heatmap"] is None:
            return None
        file, shown = picture_of(self.folder, row, "heatmap"), None
        if file is not None and leads_inside(self.folder, file):
            shown = small_copy(file)
        if shown is None:
            self.missing_heatmaps.append(row["heatmap"])
        return shown

    def nearest(self, row: dict) -> str | None:
        """The good photo that is most like a row's as a data URL, where it still lies as the profile names it."""
        name = row["nearest"]
        if name is None or is_remote(name):
            return None
        if name not in self.nearest_ones:
            self.nearest_ones[name] = small_copy(Path(name), NEAREST_SIDE)
        return self.nearest_ones[name]

    def _places(self, row: dict) -> list[Path]:
        """Where a photo may lie: as it was named, and as it lay beside the results, if both were moved."""
        path = Path(row["path"])
        places = [path] if path.is_absolute() else [path, self.folder / path, self.folder.parent / path]
        written = row["heatmap"] or row["map"]
        if written is not None and path.is_absolute() == Path(written).is_absolute():
            beside = os.path.relpath(path, Path(written).parent.parent)
            places.append(Path(os.path.normpath(self.folder.absolute() / beside)))
        return places

    def notes(self) -> list[str]:
        """A line for each kind of picture that is not shown: how many, and the first."""
        kinds = {
            "photos that are not where they were, or have changed since": self.missing_photos,
            "heatmaps that are not in the folder": self.missing_heatmaps,
            "photos at addresses, which a report does not fetch": self.elsewhere,
        }
        return [
            f"{kind}: {len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for kind, names in kinds.items()
            if names
        ]


def leads_inside(folder: Path, file: Path) -> bool:
    try:
        inside(folder, file.relative_to(folder))
    except ValueError:
        return False
    return True


def is_same_size(file: Path, size: int | None) -> bool:
    """Whether there is a file of the size that was scored: another photo may have the name since."""
    try:
        return file.is_file() and (size in (None, UNKNOWN.bytes) or file.stat().st_size == size)
    except (OSError, ValueError):
        return False


def small_copy(file: Path, longest_side: int = LONGEST_SIDE) -> str | None:
    """A small copy of a picture as a data URL; `None` if it cannot be read."""
    try:
        return data_url(read_rgb(file), longest_side, QUALITY)
    except (OSError, ValueError, MemoryError):
        return None
