"""Without the words of other libraries."""

import logging as standard
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' words about versions and progress, which are of no use to who exports."""
    level, others = logging.get_verbosity(), standard.getLogger("torch.onnx")
    logging.set_verbosity_error()
    level_of_others = others.level
    others.setLevel(standard.ERROR)
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        others.setLevel(level_of_others)
