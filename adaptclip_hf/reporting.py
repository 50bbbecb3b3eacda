"""How the package prints: beside a progress bar, once for all processes, and never deciding about the work."""

import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str], None]

# what a terminal or a page obeys, or shows in another order: control characters, line ends, directions of writing
UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def print_line(line: str):
    """Prints a line without breaking a progress bar; of several processes only the main one prints.

    What cannot be printed is left unsaid: a reader that has gone, a full disk or a console without the letters of a
    name end nothing.
    """
    from tqdm.auto import tqdm

    if is_main_process():
        with tqdm.external_write_mode():
            Unfailing(sys.stdout).write(f"{printable(line)}\n")


def print_lines(text: str):
    """Prints a text of several lines, whose line ends are meant."""
    for line in text.split("\n"):
        print_line(line)


def in_red(text: str, stream) -> str:
    """A text in red where a stream is a terminal that shows colours and nobody asked for none (no-color.org)."""
    shown = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[31m{text}\x1b[0m" if shown else text


def printable(text: str) -> str:
    """A text as one line that shows what it is: control characters as their escapes, letters in no encoding as `?`."""
    return UNSEEN.sub(escape, text).encode(errors="replace").decode()


def escape(match: re.Match) -> str:
    return match[0].encode("unicode_escape").decode()


class Unfailing(io.TextIOBase):
    """A stream that takes everything and raises nothing. Letters that it does not have are escaped.

    Attributes:
        error: the first error of the stream beneath, after which nothing more is written to it.
    """

    def __init__(self, stream):
        self._stream, self.error = stream, None

    def __getattr__(self, name):
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return bool(self._stream is not None and self._try(self._stream.isatty))

    def fileno(self) -> int:
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def write(self, text: str) -> int:
        if self._stream is not None and self.error is None:
            shown = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
            self._try(self._stream.write, shown)
        return len(text)

    def flush(self):
        if self._stream is not None and self.error is None:
            self._try(self._stream.flush)

    def _try(self, do: Callable, *values):
        try:
            return do(*values)
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self.error = error
            self._let_go()
        return None

    def _let_go(self):
        """What the stream still holds goes nowhere, so that Python does not fail on it at the end."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):  # it has no file beneath
            return


@contextmanager
def unfailing_output() -> Iterator[Unfailing]:
    """Standard output and standard error as [`Unfailing`] streams, for one call of a command; yields the first.

    A stream that is closed (`>&-`) is replaced by one to nowhere first: the next file that is opened would take its
    number, and get what libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None and (opened := os.open(os.devnull, os.O_RDWR)) != number:
            os.close(opened)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = output, errors = Unfailing(before[0]), Unfailing(before[1])
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def is_lost(output: Unfailing) -> bool:
    """Whether something was printed for a file or a pipe that could not take it; a reader that has gone has enough."""
    return output.error is not None and getattr(output.error, "errno", None) not in (errno.EPIPE, None)


def print_nothing(line: str):
    """The report of callers that asked for quiet."""


def is_main_process() -> bool:
    dist = sys.modules.get("torch.distributed")  # who has not imported it is in no group of processes
    return dist is None or not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
