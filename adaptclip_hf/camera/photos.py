"""Pictures that a trigger asks for become files of a folder."""

import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ..files import write_whole
from .source import Picture
from .triggers import Trigger

QUALITY = 95  # of JPEG, with colours in full resolution


def capture(pictures: Iterable[Picture], trigger: Trigger, folder: Path) -> Iterator[Path | None]:
    """Yields for each picture the photo that was written of it, or `None`.

    A photo appears whole or not at all. Its name has the time in UTC and a number that runs from 1.

    Raises:
        OSError: a photo cannot be written; names it.
    """
    number = 0
    for frame, seconds in pictures:
        if not trigger.asks(frame, seconds):
            yield None
            continue
        number += 1
        photo = folder / name_of(datetime.now(UTC), number)
        encoded = io.BytesIO()
        frame.to_image().save(encoded, "JPEG", quality=QUALITY, subsampling=0)
        write_whole(photo, encoded.getvalue())
        trigger.taken(photo)
        yield photo


def name_of(time: datetime, number: int) -> str:
    return f"{time:%Y%m%dT%H%M%S}.{time.microsecond // 1000:03d}Z-{number:06d}.jpg"
