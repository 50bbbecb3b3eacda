"""What failed though the request was sound: the machine is short of something. The true reason, and its status."""

import errno

import torch

from .limits import RefusedError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_FILES = (errno.EMFILE, errno.ENFILE)
WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def refusal_of(error: Exception) -> RefusedError:
    """How a MemoryError or an OSError is answered."""
    if isinstance(error, MemoryError):
        return RefusedError(503, "The machine has too little memory for this request now: try again.")
    assert isinstance(error, OSError)
    if error.errno in NO_SPACE:
        return RefusedError(507, f"Nothing could be stored, the disk is full: {error.strerror}.")
    if error.errno in NO_FILES:
        return RefusedError(503, f"The service has too many files and connections open: {error.strerror}.")
    return RefusedError(500, f"The machine refused: {error.strerror or error}.")


def is_short_of_memory(error: Exception) -> bool:
    """Whether it is how torch or a runtime says that there is no memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error).lower() for word in WORDS)
