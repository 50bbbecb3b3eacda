"""What the package adds to the model's own code, which also loads without it, as a repository's remote code."""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module

from .checks import needs_the_package

publish: Callable[..., str] | None = None  # publish(thing, repo_id, **options) -> URL of the commit
load_released: Callable | None = None  # load_released(model_class, source, **options) -> model


def hook(name: str, asked: str) -> Callable:
    """The function that the package has set, here or, where this is remote code, in the package's own copy.

    Args:
        name: "publish" or "load_released".
        asked: what the user called, for the error.

    Raises:
        ImportError: none is set, because the package is not installed.
    """
    function = globals()[name]
    if function is None:
        with suppress(ImportError):
            function = getattr(import_module("adaptclip_hf.modeling.hooks"), name)
    if function is None:
        raise needs_the_package(asked)
    return function
