"""The folder in which a service keeps its products: a profile's folder for each, whole whatever is killed when."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..files import LOCK_FILE, locked
from ..model_files import PROFILE_FILE

# names of folders that are not products: one that is being written, one that is being replaced, one that is removed
INCOMING, OLDER, REMOVED = ".incoming.", ".older.", ".removed."
HIDDEN = "."
WAIT = 60  # seconds, for another service that changes the same folder


class ProductFolder:
    """Products on disk, in `FOLDER/NAME/`. A kill leaves each as it was or as it is put; [`~ProductFolder.recover`]
    finishes what was interrupted.

    Args:
        folder: it is made if it is not there.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def recover(self):
        """Brings back what was being replaced, and removes what is left of changes that were interrupted.

        Raises:
            OSError, ValueError: the folder cannot be written or locked.
        """
        if not any(each.name.startswith((INCOMING, OLDER, REMOVED)) for each in self.folder.iterdir()):
            return
        with self._locked():
            for older in self.folder.glob(f"{OLDER}*"):
                current = self.folder / older.name.removeprefix(OLDER)
                if not os.path.lexists(current):  # killed between two renames
                    older.rename(current)
            for left in self.folder.iterdir():
                if left.name.startswith((INCOMING, OLDER, REMOVED)):
                    remove(left)

    def entries(self) -> tuple[list[Path], dict[str, str]]:
        """The folders that hold products, sorted, and the reason for each other thing that is there."""
        products, others = [], {}
        for each in sorted(self.folder.iterdir()):
            if each.name == LOCK_FILE:
                continue
            if each.name.startswith(HIDDEN):
                others[each.name] = "its name begins with a dot"
            elif not each.is_dir():
                others[each.name] = "it is no folder"
            elif not holds_profile(each):
                others[each.name] = f"it holds no {PROFILE_FILE}, or cannot be read"
            else:
                products.append(each)
        return products, others

    @contextmanager
    def incoming(self, files: Mapping[str, BinaryIO]) -> Iterator[Path]:
        """A product's files in a folder of their own, safe on disk; [`~ProductFolder.put`] makes it a product.

        Raises:
            OSError: such as that of a full disk.
        """
        folder = Path(tempfile.mkdtemp(prefix=INCOMING, dir=self.folder))
        try:
            folder.chmod(0o755)
            for name, content in files.items():
                with (folder / name).open("xb") as opened:
                    shutil.copyfileobj(content, opened)
                    opened.flush()
                    os.fsync(opened.fileno())
            yield folder
        finally:
            remove(folder)

    def put(self, name: str, incoming: Path):
        """Makes a folder the product of a name; the one that had it is removed.

        Raises:
            ValueError: something else has the name.
            OSError: it cannot be done; nothing changes then.
        """
        current, older = self.folder / name, self.folder / f"{OLDER}{name}"
        with self._locked():
            if not os.path.lexists(current):
                incoming.rename(current)
            elif not holds_profile(current):
                raise ValueError(
                    f"{name} in the folder of products is no product: choose another name, or move it away."
                )
            else:
                remove(older)
                current.rename(older)
                try:
                    incoming.rename(current)
                except BaseException:
                    older.rename(current)
                    raise
                remove(older)
            sync(self.folder)

    def remove(self, name: str):
        """Removes a product; one that is not here is fine.

        Raises:
            OSError: it cannot be done; nothing changes then.
        """
        with self._locked():
            if os.path.lexists(self.folder / name):
                aside = Path(tempfile.mkdtemp(prefix=REMOVED, dir=self.folder))
                try:
                    (self.folder / name).rename(aside / name)
                    sync(self.folder)
                finally:
                    remove(aside)

    def _locked(self):
        return locked(self.folder, "Another service", WAIT)


def holds_profile(folder: Path) -> bool:
    try:
        return (folder / PROFILE_FILE).is_file()
    except OSError:
        return False


def remove(path: Path):
    """Removes a folder, or a link to one; what resists is left for the next start."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def sync(folder: Path):
    """Makes renames in a folder last, where the system can."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        except OSError:
            pass  # some shares cannot
        finally:
            os.close(opened)
