"""What counts as an image file, and which images paths, folders and patterns name."""

import glob
import os
from collections.abc import Container, Iterable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from .own_files import is_own_folder, lies_in_own_folder
from .passed_over import OnPassedOver, PassedOver, pass_silently
from .processing.image_opening import FORMATS as FORMATS
from .processing.image_opening import OF_JPEG, formats

# what network stores and systems keep beside photos: thumbnails, wastes, snapshots; in lower case
OF_SYSTEMS = {
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "@synoresource", "@synoeastream"),
    *("#recycle", "#snapshot", "~snapshot", "trashbox", "network trash folder", "temporary items"),
    *("$recycle.bin", "recycler", "recycled", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
    *("__macosx", "icon\r", "lost+found"),
}
THUMBNAILS = ("synophoto_thumb", "synoindex_media", "synofile_thumb")  # beginnings of names, in lower case
# photos, drawings and films of other programs than those that Pillow knows
OTHER_FORMATS = {
    *(".heic", ".heif", ".hif", ".avci", ".jxl", ".jxr", ".wdp", ".psd", ".psb", ".pdf", ".svg", ".ai", ".eps", ".dcm"),
    *(".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"),
    *(".srw", ".x3f", ".3fr", ".iiq", ".exr", ".hdr", ".mp4", ".mov", ".avi", ".mkv", ".mpg", ".mpeg", ".wmv"),
}

HIDDEN, SYSTEM = "hidden", "thumbnails or waste that a store or a system keeps"
OURS, OUTPUT = "pictures that adaptclip drew", "the output of this call"
LINKED, DANGLING = "links to folders (name the folder itself to include it)", "links to nothing"
NOT_READ = "photos in a format that is not read (convert them to PNG or TIFF)"
SPECIAL = "neither a file nor a folder"
TWICE = "files that are named twice"


@cache
def image_suffixes() -> frozenset[str]:
    """The file endings of the picture formats that Pillow reads here, in lower case."""
    from PIL import Image

    opened = (*formats(), OF_JPEG)
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in opened)


@cache
def other_suffixes() -> frozenset[str]:
    """The file endings of other formats that Pillow knows, in lower case."""
    from PIL import Image

    Image.init()
    return frozenset(Image.registered_extensions()) - image_suffixes()


def reason_against(name: str) -> str | None:
    """Why a file or folder of this name is never meant; `None` where it may be."""
    lower = name.lower()
    if lower in OF_SYSTEMS or lower.startswith(THUMBNAILS):
        return SYSTEM
    return HIDDEN if name.startswith(".") else None


def reason_against_file(name: str) -> str | None:
    """Why a file of this name is not taken for an image; `None` if it is."""
    if reason := reason_against(name):
        return reason
    if has_image_suffix(name):
        return None
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
    if suffix in OTHER_FORMATS or suffix in other_suffixes():
        return NOT_READ
    return f"no images ({suffix or 'no ending'})"


def has_image_suffix(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in image_suffixes()  # noqa: PTH122


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image: by its ending; hidden ones and stores' thumbnails are not."""
    return reason_against_file(name) is None


class FolderWalk:
    """The one way to walk a folder: depth first, sorted, without recursion.

    Links to files are followed, links to folders are not: no walk goes in a circle or comes to a photo twice.

    Args:
        leave_out: a folder whose images are not meant: the call's own output.
        passed_over: called with the path of each file and folder that is passed over, and the reason.
    """

    follow_links = False  # to folders

    def __init__(self, leave_out: Path | None = None, passed_over: OnPassedOver = pass_silently):
        self.leave_out = None if leave_out is None else os.path.realpath(leave_out)
        self.passed_over = passed_over

    def images_below(self, root: str) -> Iterator[str]:
        """Every image; what cannot be listed is passed over, but for the root.

        Raises:
            OSError: the root cannot be listed.
        """
        levels = [iter(self.entries(root))]
        while levels:
            for path, is_folder in levels[-1]:
                if not is_folder:
                    yield path
                elif (entries := self.entries_or_none(path)) is not None:
                    levels.append(iter(entries))
                    break
            else:
                levels.pop()

    def entries_or_none(self, folder: str) -> list[tuple[str, bool]] | None:
        """As [`~FolderWalk.entries`]; a folder that cannot be listed is passed over."""
        try:
            return self.entries(folder)
        except OSError as error:
            self.passed_over(folder, f"cannot be listed ({error.strerror})")
            return None

    def entries(self, folder: str) -> list[tuple[str, bool]]:
        """The path of each image and folder right in a folder, and whether it is a folder.

        Raises:
            OSError: it cannot be listed.
        """
        return self.new_entries(folder, ())[1]

    def new_entries(self, folder: str, known: Container[str]) -> tuple[set[str], list[tuple[str, bool]]]:
        """The names of all that is right in a folder, and the entries whose names are not known.

        Raises:
            OSError: it cannot be listed.
        """
        with os.scandir(folder) as opened:
            entries = list(opened)
        new = sorted((entry for entry in entries if entry.name not in known), key=lambda entry: entry.name)
        kinds = ((os.path.join(folder, entry.name), self.is_folder(entry)) for entry in new)  # noqa: PTH118
        return {entry.name for entry in entries}, [(path, kind) for path, kind in kinds if kind is not None]

    def is_folder(self, entry: os.DirEntry[str] | Path) -> bool | None:
        """Whether an entry is a folder to walk or an image; `None` for what is passed over."""
        try:
            is_folder = entry.is_dir()
            reason = self._reason_against_folder(entry) if is_folder else self._reason_against_file(entry)
        except OSError as error:  # a link to itself, for one
            reason = f"cannot be opened ({error.strerror})"
        if reason is None:
            return is_folder
        if reason != HIDDEN or is_folder or has_image_suffix(entry.name):  # other hidden files are nobody's photos
            self.passed_over(os.fspath(entry), reason)
        return None

    def _reason_against_folder(self, entry: os.DirEntry[str] | Path) -> str | None:
        if reason := reason_against(entry.name):
            return reason
        if entry.is_symlink() and not self.follow_links:
            return LINKED
        return self.reason_against_output(os.fspath(entry))

    def _reason_against_file(self, entry: os.DirEntry[str] | Path) -> str | None:
        if reason := reason_against_file(entry.name):
            return reason
        if not entry.is_file():
            return DANGLING if entry.is_symlink() else SPECIAL
        return OURS if entry.is_symlink() and lies_in_own_folder(os.fspath(entry)) else None

    def reason_against_output(self, folder: str) -> str | None:
        """Whether a folder is the call's own output, or one of pictures of ours."""
        if self.leave_out is not None and os.path.realpath(folder) == self.leave_out:
            return OUTPUT
        return OURS if is_own_folder(folder) else None


def images_below(
    folder: Path, leave_out: Path | None = None, passed_over: OnPassedOver = pass_silently
) -> Iterator[Path]:
    """Every image below a folder, sorted; see [`FolderWalk`].

    Raises:
        OSError: the folder cannot be listed.
    """
    return map(Path, FolderWalk(leave_out, passed_over).images_below(str(folder)))


class ImageFiles(Iterable[Path]):
    """Files as they are named, every image below a folder, every match of a pattern; sorted within each.

    A file that is named is kept whatever its ending, and kept if it does not exist: reading it reports that. Pictures
    of ours, and what a store keeps for itself, are passed over even where they are named, since patterns that a shell
    expands name them.

    Args:
        leave_out: a folder whose images folders and patterns do not mean: the call's own output.
        passed_over: called with the path of each file and folder that is passed over, and the reason; each time the
            images are listed.

    Raises:
        OSError: a folder cannot be listed.
        ValueError: for a folder without images, or a pattern that matches nothing; names what was passed over.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        leave_out: Path | None = None,
        passed_over: OnPassedOver = pass_silently,
    ):
        self.paths, self.leave_out, self.passed_over = [Path(path) for path in paths], leave_out, passed_over
        nothing = []
        for path in self.paths:
            passed = PassedOver()
            if next(self._files_of(path, passed), None) is not None:
                continue
            why = f", {passed.describe()}" if passed.counts else ""
            nothing.append(f"{path}{why}")
            if not passed.counts or passed.counts.keys() - {SYSTEM, OURS, OUTPUT}:
                raise ValueError(
                    f"The folder {path} holds no image file{why}."
                    if is_folder(path)
                    else f"Nothing matches {path}{why}."
                )
        if nothing and len(nothing) == len(self.paths):
            raise ValueError(f"There is no photo: {nothing[0]}.")

    def __iter__(self) -> Iterator[Path]:
        for path in self.paths:
            yield from self._files_of(path, self.passed_over)

    def _files_of(self, path: Path, passed_over: OnPassedOver) -> Iterator[Path]:
        if reason := reason_against_named(path):
            passed_over(str(path), reason)
        elif is_folder(path):
            yield from images_below(path, self.leave_out, passed_over)
        elif glob.has_magic(str(path)) and not is_there(path):
            yield from self._matches(path, passed_over)
        else:
            yield path

    def _matches(self, pattern: Path, passed_over: OnPassedOver) -> Iterator[Path]:
        """What a pattern matches, but for folders; `**` walks as a folder does."""
        walk, parts = FolderWalk(self.leave_out, passed_over), pattern.parts
        if "**" in parts:
            first = parts.index("**")
            for root in sorted(glob.glob(str(Path(*parts[:first])))) if first else ["."]:  # noqa: PTH207
                if is_folder(Path(root)):
                    yield from self._below(root, parts[first:], passed_over)
            return
        fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
        for file in sorted(Path(match) for match in glob.glob(str(pattern))):  # noqa: PTH207
            above = [Path(*file.parts[:number]) for number in range(fixed + 1, len(file.parts))]
            reason = next(filter(None, (reason_below(each, walk) for each in above)), None)
            if reason := reason or reason_against_named(file):
                passed_over(str(file), reason)
            elif not is_folder(file):
                yield file

    def _below(self, root: str, pattern: tuple[str, ...], passed_over: OnPassedOver) -> Iterator[Path]:
        """The images below a folder whose paths match the parts of a pattern."""

        def is_meant(path: str) -> bool:
            return matches(Path(path).relative_to(root).parts, pattern)

        def pass_over(path: str, reason: str):
            if is_meant(path) or is_folder(Path(path)):
                passed_over(path, reason)

        yield from map(Path, filter(is_meant, FolderWalk(self.leave_out, pass_over).images_below(root)))


def matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path match those of a pattern, in which `**` stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(matches(parts[number:], pattern[1:]) for number in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def reason_below(folder: Path, walk: FolderWalk) -> str | None:
    """Why a folder that a pattern matches is passed over."""
    return reason_against(folder.name) or walk.reason_against_output(str(folder))


def reason_against_named(path: Path) -> str | None:
    """Why something is passed over although it is named: a store keeps it for itself, or we drew it."""
    if any(reason_against(part) == SYSTEM for part in path.parts):
        return SYSTEM
    return OURS if lies_in_own_folder(path) else None


def is_folder(path: Path) -> bool:
    """Whether a folder is there; false for what is no path, too."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path) -> bool:
    return os.path.lexists(path)


def find_images(
    paths: Iterable[str | Path], leave_out: Path | None = None, passed_over: PassedOver | None = None
) -> list[Path]:
    """What [`ImageFiles`] names, each file once, under whatever names it comes; what is passed over is told."""
    passed_over = PassedOver() if passed_over is None else passed_over
    found: dict[object, Path] = {}
    for path in ImageFiles(paths, leave_out, passed_over):
        if (key := identity_of(path)) in found:
            passed_over(str(path), TWICE)
        else:
            found[key] = path
    passed_over.tell()
    return list(found.values())


def identity_of(path: Path) -> object:
    """The same for each name of a file; the path itself where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else path
