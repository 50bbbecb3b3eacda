"""A program that is run for each anomalous image."""

import re
import shlex
import shutil
import subprocess
from tempfile import TemporaryFile

from ..labels import ANOMALOUS
from ..reporting import printable
from ..runs.outbox import Message
from .target import Target

TIMEOUT = 60.0  # seconds, after which the program is ended and run again
SAID = 300  # bytes of what it says at its end, for the message
FIELD = re.compile(r"\{(\w+)\}")
FIELDS = {"path": "file", "name": "path", "score": "score", "label": "label", "id": "id", "time": "time"}


class Command(Target):
    """Runs a program, never through a shell. It has the decision when the program ends with status 0.

    Args:
        command: words as a shell would split them, once. In each word `{path}` (absolute, so that no name is taken for
            an option), `{name}` (the path as results have it), `{score}`, `{label}`, `{id}` and `{time}` are filled in;
            what is filled in is never split. The whole decision comes as a line of JSON on standard input.

    Raises:
        ValueError: there is no such program, the quotes do not match, or a word names another field.
    """

    name, label = "command", ANOMALOUS

    def __init__(self, command: str):
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise ValueError(f"--on-anomalous {command}: {error}") from error
        if not self.words or shutil.which(self.words[0]) is None:
            raise ValueError(f"--on-anomalous {command}: there is no program {self.words[0] if self.words else ''!r}")
        if unknown := [name for name in FIELD.findall(command) if name not in FIELDS]:
            known = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise ValueError(f"--on-anomalous {command}: {{{unknown[0]}}} is none of {known}")
        self.shown = printable(self.words[0])

    def deliver(self, message: Message):
        words = [FIELD.sub(lambda field: str(message.body[FIELDS[field[1]]]), word) for word in self.words]
        with TemporaryFile() as said:
            try:
                status = subprocess.run(
                    words,
                    input=message.text.encode() + b"\n",
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    timeout=TIMEOUT,
                    start_new_session=True,  # Ctrl-C ends the run, and not the program half-way
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise TimeoutError(f"it took more than {TIMEOUT:.0f} s") from error
            if status:
                said.seek(max(0, said.seek(0, 2) - SAID))
                last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise OSError(f"it ended with status {status}" + (f": {last}" if last else ""))
