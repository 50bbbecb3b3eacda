"""How a line reaches people: one way, which neither breaks a progress bar nor speaks once for each process."""

from collections.abc import Callable

Report = Callable[[str], None]


def say(line: str):
    """Prints a line, beside a progress bar if there is one; of several processes the main one alone."""
    from tqdm.auto import tqdm

    if is_main_process():
        tqdm.write(printable(line))


def printable(text: str) -> str:
    """A text with the bytes of file names that are in no encoding replaced."""
    return text.encode(errors="replace").decode()


def say_nothing(line: str):
    """For callers that asked for quiet."""


def is_main_process() -> bool:
    import torch.distributed as dist

    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def first_line(error: BaseException) -> str:
    """What an error says, in a line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
