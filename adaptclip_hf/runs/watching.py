"""A folder that is watched: which images in it are complete and new."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..image_files import FolderWalk, is_image_name
from ..passed_over import PassedOver
from ..reporting import Report, first_line, print_nothing

SETTLED = 0.6  # seconds for which a file has not changed, after which it is taken for complete
WAKE_AFTER = 200  # milliseconds, while nothing happens
LOOK_AGAIN = 5.0  # seconds, after which folders are looked at whether or not an event came
LOOK_WITHOUT_EVENTS = 1.0
TRY_AGAIN = 30.0  # seconds, after which events are asked for again
SHARE = 0.02  # of the time, for looking at what nothing says has changed
LONGEST_REST = 15.0  # seconds after a long look


@dataclass
class Listing:
    """What a folder held when it was listed.

    Attributes:
        names: of all that is in it.
        changed: its time of change before it was listed, in ns.
        sure: whether it was the same the time before; a change within the clock's step shows in no time.
    """

    names: set[str] = field(default_factory=set)
    changed: int | None = None
    sure: bool = False


class FolderWatch:
    """Which images of a folder, and of what is below it, are new and complete.

    Events only tell where to look. What they miss, as on shares, is seen by looking: at the times of all folders every
    few seconds, and at all files in turn, for a small share of the time.

    Args:
        known: whether an image is done with.
        leave_out: a folder whose images are not meant: the call's own output.
        report: called with a line when the folder is away, or when there are no events.

    Raises:
        FileNotFoundError: no such folder.
    """

    def __init__(
        self,
        folder: Path,
        known: Callable[[Path], bool],
        leave_out: Path | None = None,
        passed_over: PassedOver | None = None,
        report: Report = print_nothing,
    ):
        if not folder.is_dir():
            raise FileNotFoundError(f"No folder {folder} to watch.")
        self.root, self.known, self.report = os.fspath(folder.absolute()), known, report
        self.shown = os.fspath(folder)
        self.passed_over = PassedOver() if passed_over is None else passed_over
        self.walk, self.walk_silently = FolderWalk(leave_out, self.passed_over), FolderWalk(leave_out)
        self.listed: dict[str, Listing] = {}
        self.settling: dict[str, tuple[tuple[int, int] | None, float]] = {}
        self.away, self.has_events, self.restart = False, True, False
        self.identity: tuple[int, int] | None = None
        self.look_at, self.credit, self.sweep = 0.0, 0.0, self._sweep()

    def complete_images(self) -> Iterator[list[Path]]:
        """New images in groups as they become complete, for ever."""
        before = time.monotonic()
        for changed in self._wakes():
            for path in changed:
                self._look_at(path)
            now = time.monotonic()
            if now >= self.look_at:
                self._look()
                rest = min((time.monotonic() - now) / max(SHARE, 1e-9), LONGEST_REST)
                self.look_at = now + max(LOOK_AGAIN if self.has_events else LOOK_WITHOUT_EVENTS, rest)
            self._look_further(now - before)
            before = now
            self.passed_over.tell()
            if complete := self._complete(now):
                yield complete

    def _wakes(self) -> Iterator[set[str]]:
        """Paths of which an event tells, or none after a while."""
        from watchfiles import watch

        told = None
        while True:
            try:
                self.restart, self.has_events = False, True
                events = watch(
                    self.root,
                    watch_filter=None,
                    yield_on_timeout=True,
                    rust_timeout=WAKE_AFTER,
                    step=50,
                    debounce=WAKE_AFTER,
                    ignore_permission_denied=True,
                )
                for changes in events:
                    yield {path for _, path in changes}
                    if self.restart:
                        break
            except (OSError, RuntimeError) as error:  # the second for what its library cannot name
                self.has_events, self.look_at = False, 0.0
                if not self.away and told != (told := first_line(error)):
                    self.report(f"no events from {self.shown} ({told}): it is looked at every second")
                end = time.monotonic() + TRY_AGAIN
                while time.monotonic() < end and not self.restart:
                    time.sleep(WAKE_AFTER / 1000)
                    yield set()

    def _look_at(self, path: str):
        """Looks at what an event tells of, or at the folder above it that has not been seen."""
        folder, name = os.path.split(path)
        while folder not in self.listed:
            path, inside = folder, True
            folder, name = os.path.split(path)
            if len(folder) < len(self.root):
                return
            if inside and folder in self.listed and name in self.listed[folder].names:
                return  # it lies in what is passed over
        names = self.listed[folder].names
        if not os.path.lexists(path):
            self._forget(path)
            return
        walk = self.walk_silently if name in names else self.walk
        names.add(name)
        is_folder = walk.is_folder(Path(path))
        if is_folder:
            self._list_below(path)
        elif is_folder is False:
            self._consider(path)

    def _forget(self, path: str):
        """What is gone is new when it comes back."""
        folder, name = os.path.split(path)
        if folder in self.listed:
            self.listed[folder].names.discard(name)
        if path in self.listed:
            for each in [each for each in self.listed if each == path or each.startswith(path + os.sep)]:
                del self.listed[each]

    def _look(self):
        """Lists what has changed by the times of the folders, all of which are known."""
        try:
            status = os.stat(self.root)  # noqa: PTH116
        except OSError as error:
            if not self.away:
                self.report(f"{self.shown} is away ({error.strerror}): waiting for it")
            self.away = True
            return
        if self.away:
            self.report(f"{self.shown} is back")
            self.away, self.restart = False, True
            self.listed.clear()
        identity, self.identity = self.identity, (status.st_dev, status.st_ino)
        if identity not in (None, self.identity):  # mounted anew: events of the old one never come
            self.restart = True
        self._list_below(self.root)
        for folder in list(self.listed):
            self._list_below(folder)

    def _list_below(self, folder: str, even_if_unchanged: bool = False):
        """Lists a folder if it has changed, and all that is new below it."""
        waiting = [folder]
        while waiting:
            for path, is_folder in self._new_in(waiting.pop(), even_if_unchanged):
                if is_folder:
                    waiting.append(path)
                else:
                    self._consider(path)
            even_if_unchanged = False

    def _new_in(self, folder: str, even_if_unchanged: bool) -> list[tuple[str, bool]]:
        """The images and folders right in a folder that were not there when it was last listed."""
        is_new = folder not in self.listed
        listing = self.listed.setdefault(folder, Listing())
        try:
            changed = os.stat(folder).st_mtime_ns  # noqa: PTH116
            if changed == listing.changed and listing.sure and not even_if_unchanged:
                return []
            listing.names, new = self.walk.new_entries(folder, listing.names)
            listing.changed, listing.sure = changed, changed == listing.changed
            return new
        except (FileNotFoundError, NotADirectoryError):  # gone since
            if folder != self.root:
                self._forget(folder)
        except OSError as error:
            if is_new:
                self.passed_over(folder, f"cannot be listed ({error.strerror})")
        return []

    def _consider(self, path: str):
        """Waits for an image to be complete, unless it is done with."""
        if path not in self.settling and not self.known(self._as_given(path)):
            self.settling[path] = (None, 0.0)

    def _look_further(self, seconds: float):
        """Goes on with the sweep, for a share of the seconds that have passed."""
        start = time.monotonic()
        self.credit = min(self.credit + SHARE * seconds, 1.0)
        while not self.away and time.monotonic() - start < self.credit and next(self.sweep):
            pass
        self.credit -= time.monotonic() - start

    def _sweep(self) -> Iterator[bool]:
        """Looks at every folder and file in turn, a step each time; false when it waits for the next round."""
        while True:
            end = time.monotonic() + LOOK_AGAIN
            for folder in list(self.listed):
                self._list_below(folder, even_if_unchanged=True)
                yield True
                names = self.listed[folder].names if folder in self.listed else ()
                for name in list(names):
                    if is_image_name(name):
                        path = os.path.join(folder, name)  # noqa: PTH118
                        if self.walk_silently.is_folder(Path(path)) is False:
                            self._consider(path)
                        yield True
            while time.monotonic() < end:
                yield False

    def _complete(self, now: float) -> list[Path]:
        """The images that have not changed for a while."""
        complete: list[Path] = []
        waiting: dict[str, tuple[tuple[int, int] | None, float]] = {}
        for path, (before, since) in self.settling.items():
            state = state_of(path)
            if state is None:
                self._forget(path)
            elif state != before:
                waiting[path] = (state, now)
            elif now - since < SETTLED:
                waiting[path] = (state, since)
            else:
                complete.append(self._as_given(path))
        self.settling = waiting
        return complete

    def _as_given(self, path: str) -> Path:
        """A path with the folder as the caller names it."""
        return Path(self.shown + path[len(self.root) :])


def state_of(path: str) -> tuple[int, int] | None:
    """Size and time of change; `None` for a file that has gone since."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
