"""How the package prints a line: beside a progress bar, and once where several processes run."""

from collections.abc import Callable

Report = Callable[[str], None]


def print_line(line: str):
    """Prints a line without breaking a progress bar; of several processes only the main one prints."""
    from tqdm.auto import tqdm

    if is_main_process():
        tqdm.write(printable(line))


def printable(text: str) -> str:
    """A text in which bytes of file names that no encoding knows are replaced."""
    return text.encode(errors="replace").decode()


def print_nothing(line: str):
    """The report of callers that asked for quiet."""


def is_main_process() -> bool:
    import torch.distributed as dist

    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
