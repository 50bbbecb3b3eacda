"""Runs commands in processes of their own that need not import torch and transformers each: a server that has them is
forked for each (a command takes six seconds less)."""

import os
import runpy
import sys
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryFile

PRELOADED = ["adaptclip_hf.cli", "adaptclip_hf.detector", "adaptclip_hf.inspection", "adaptclip_hf.evaluation"]
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(PRELOADED)


def run_command(words: list[str], folder: Path):
    """Runs `adaptclip ...` or `python FILE|CODE ...` in a folder; fails with its output where it fails."""
    with TemporaryFile() as output:
        status = forked(words, folder, output)
        output.seek(0)
        text = output.read().decode(errors="replace")
    assert status == 0, f"{words}\n{text[-5000:]}"


def forked(words: list[str], folder: Path, output) -> int | None:
    from multiprocessing.reduction import DupFd

    process = FORKS.Process(target=child, args=(words, str(folder), DupFd(output.fileno())))
    process.start()
    process.join()
    return process.exitcode


def child(words: list[str], folder: str, output):
    descriptor = output.detach()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.chdir(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"
    program, *rest = words
    sys.argv = rest if program == "python" else words
    if program == "adaptclip":
        from adaptclip_hf.cli import main

        sys.exit(main(rest))
    assert program == "python", words
    if rest[0].endswith(".py"):
        sys.path.insert(0, str(Path(rest[0]).parent))
        runpy.run_path(rest[0], run_name="__main__")
    else:
        exec(compile(rest[0], "block", "exec"), {"__name__": "__main__"})
