"""A folder that is watched: which images in it are complete and new."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..image_files import images_below

SETTLED = 0.6  # seconds for which a file has not changed, after which it is taken for complete
WAKE_AFTER = 200  # milliseconds, while something settles
LOOK_AGAIN = 5.0  # seconds, whether or not an event came


def complete_images(folder: Path, leave_out: Path | None, known: Callable[[Path], bool]) -> Iterator[list[Path]]:
    """New images of a folder and what is below it, in groups as they become complete, for ever.

    Events only wake: what is new is seen by looking at the folder, so that an event which is lost, or a time when
    nobody watched, loses no image.

    Args:
        leave_out: a folder whose images are not meant: the call's own output.
        known: whether an image is done with.

    Raises:
        FileNotFoundError: no such folder.
    """
    from watchfiles import watch

    if not folder.is_dir():
        raise FileNotFoundError(f"No folder {folder} to watch.")
    settling: dict[Path, tuple[tuple[int, int], float]] = {}
    looked = -LOOK_AGAIN
    for events in watch(folder, yield_on_timeout=True, rust_timeout=WAKE_AFTER, step=50, debounce=WAKE_AFTER):
        now = time.monotonic()
        if not events and not settling and now - looked < LOOK_AGAIN:
            continue
        complete, waiting, looked = [], {}, now
        for path in images_below(folder, leave_out):
            if known(path) or (seen := state_of(path)) is None:
                continue
            before, since = settling.get(path, (None, now))
            if seen != before:
                waiting[path] = (seen, now)
            elif now - since < SETTLED:
                waiting[path] = (seen, since)
            else:
                complete.append(path)
        settling = waiting
        if complete:
            yield complete


def state_of(path: Path) -> tuple[int, int] | None:
    """Size and time of change; `None` for a file that has gone since."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
