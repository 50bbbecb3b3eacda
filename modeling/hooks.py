"""What the package adds to the model's own code, which also loads alone, as a repository's remote code."""

from collections.abc import Callable

from .checks import needs_the_package

publish: Callable[..., str] | None = None  # publish(thing, repo_id, **options) -> the commit's URL
load_released: Callable | None = None  # load_released(model_class, source, **options) -> model


def hook(name: str, asked: str) -> Callable:
    """The function that the package has set.

    Args:
        asked: the method that needs it.

    Raises:
        ImportError: the package is not installed.
    """
    function = globals()[name]
    if function is None:
        raise needs_the_package(asked)
    return function
