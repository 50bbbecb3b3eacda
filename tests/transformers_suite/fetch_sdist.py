"""The source of the installed transformers, with its common tests, which its wheel does not hold."""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

FETCH_SECONDS = 180


def cache_folder() -> Path:
    """Outside the repository, whose files are all our own."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "adaptclip-tests"


def transformers_source() -> Path:
    """The unpacked source, fetched once for each version.

    Raises:
        OSError: pip's index does not have it, or there is no index.
    """
    name = f"transformers-{version('transformers')}"
    source = cache_folder() / name
    source.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(source.with_suffix(".lock")):
        if not source.is_dir():
            with tempfile.TemporaryDirectory(dir=source.parent) as folder:
                with tarfile.open(downloaded(name, Path(folder))) as opened:
                    opened.extractall(folder, filter="data")
                (Path(folder) / name).rename(source)
    return source


def downloaded(name: str, folder: Path) -> Path:
    """What pip downloads; it asks the archive for its requirements, and builds nothing."""
    project, _, number = name.rpartition("-")
    options = ["--no-deps", "--no-build-isolation", "--no-binary", project, "--retries", "0", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, f"{project}=={number}"]
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, env=environment)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"pip did not fetch the source of {name} within {FETCH_SECONDS} s") from error
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or not archives:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise OSError(f"pip cannot fetch the source of {name}: {reason[-1] if reason else 'no archive'}")
    return archives[0]


if __name__ == "__main__":
    try:
        print(f"transformers' own common tests are those of {transformers_source()}")
    except OSError as error:
        line = "#" * 100
        print(f"{line}\n# NOT RUN: transformers' own common tests. {error}\n{line}")
