"""A folder into which photos are sorted."""

import hashlib
import os
import sys
from pathlib import Path

from ..files import file_name
from ..runs.outbox import Message
from ..runs.sources import Source
from ..runs.stamps import digest_of
from .target import Target, UndeliverableError

UNREADABLE = "unreadable"
UNFINISHED = ".unfinished-"
LONGEST_NAME = 255  # bytes


class SortedFolder(Target):
    """Copies each photo to `FOLDER/LABEL/`, and one that cannot be read to `FOLDER/unreadable/`.

    A photo keeps its name. Where another one has it, a part of the decision's id is added: nothing is overwritten.
    """

    name = "folder"

    def __init__(self, folder: Path):
        self.folder, self.shown = folder, str(folder)

    def deliver(self, message: Message):
        body = message.body
        place = self.folder / (UNREADABLE if body["error"] is not None else file_name(body["label"]))
        content = self._content(body)
        digest = hashlib.sha256(content).hexdigest()
        if body["sha256"] not in (None, digest):
            raise UndeliverableError(f"{body['path']} has changed since it was decided")
        place.mkdir(parents=True, exist_ok=True)
        name = Path(body["path"]).name
        unfinished = place / f"{UNFINISHED}{message.id}"
        for file in (place / name, place / numbered(name, message.id[:16])):
            if os.path.lexists(file):
                if file.is_file() and digest_of(str(file)) == digest:
                    return  # it has this one
                continue
            try:
                unfinished.write_bytes(content)
                if move_to_new(unfinished, file):
                    return
            finally:
                unfinished.unlink(missing_ok=True)
        raise UndeliverableError(f"{file} is there, with another content")

    def _content(self, body: dict) -> bytes:
        """The photo's bytes, from wherever it lies."""
        try:
            found = Source(body["file"]).content()
            return found["bytes"] if isinstance(found, dict) else Path(found).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UndeliverableError(f"{body['path']} is gone") from error
        except (OSError, ValueError) as error:
            if body["error"] is None:
                raise  # it was read before: its disk may be away
            raise UndeliverableError(f"{body['path']} can still not be read") from error


def numbered(name: str, number: str) -> str:
    """A name with a number before its ending, no longer than file systems take."""
    stem, ending = os.path.splitext(name)  # noqa: PTH122 (also of a name that is in no encoding)
    room = LONGEST_NAME - len(os.fsencode(ending)) - len(number) - 1
    kept = os.fsencode(stem)[:room].decode(sys.getfilesystemencoding(), "ignore") if room > 0 else ""
    return f"{stem if len(os.fsencode(stem)) <= room else kept}-{number}{ending if room > 0 else ''}"


def move_to_new(file: Path, new: Path) -> bool:
    """Renames a file; false where the new name is taken, also at this very moment by another program."""
    try:
        os.link(file, new)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if os.path.lexists(new):
            return False
        file.rename(new)
    return True
