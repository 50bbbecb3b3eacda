"""A folder into which photos are sorted."""

import hashlib
import os
from pathlib import Path

from ..files import file_name
from ..runs.outbox import Message
from ..runs.sources import Source
from ..runs.stamps import digest_of
from .target import Target, UndeliverableError

UNREADABLE = "unreadable"
UNFINISHED = ".unfinished-"


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
        for file in (place / name, place / f"{Path(name).stem}-{message.id[:16]}{Path(name).suffix}"):
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
        except FileNotFoundError as error:
            raise UndeliverableError(f"{body['path']} is gone") from error


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
