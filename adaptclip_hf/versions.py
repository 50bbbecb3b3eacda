"""This package's version, and those of what it runs with."""

from importlib.metadata import PackageNotFoundError, version

__version__ = "0.2.0"


def package_versions(*names: str) -> dict[str, str]:
    """{name: version}, this package's own first; it need not be installed, a checkout will do."""
    found = {"adaptclip-hf": __version__}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
