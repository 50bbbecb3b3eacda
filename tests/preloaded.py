"""A program that has imported what commands need, and forks itself for each that it is asked for.

    python tests/preloaded.py CHANNEL

CHANNEL is the number of a socket (see `commands.py`). Each byte that comes brings four files: the command as JSON,
standard output, standard error, and where the number of its process and then its exit status are written. It ends with
the socket.
"""

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from pathlib import Path

MODULES = ("cli", "detector", "pipeline", "inspection", "evaluation")
NUMBER = struct.Struct("q")


def main():
    channel = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which close the channel
    for name in MODULES:
        import_module(f"adaptclip_hf.{name}")
    gc.collect()
    gc.freeze()
    command = fork_for_each(channel)
    if command is not None:
        run(command)


def fork_for_each(channel: socket.socket) -> dict | None:
    """Returns in each child, with the command that it is to run, and at the end."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    running: dict[int, int] = {}  # where the exit status of a process is written
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(channel, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if woken in ready:
            os.read(woken, 1000)
            tell_what_ended(running)
        if channel in ready:
            message, files, _, _ = socket.recv_fds(channel, 1, 4)
            if not message:
                return None
            process = os.fork()
            if process == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                selector.close()
                for each in (channel.detach(), woken, wakes, *running.values()):
                    os.close(each)
                for number, file in enumerate(files[1:3], 1):
                    os.dup2(file, number)
                for each in files[1:]:
                    os.close(each)
                with os.fdopen(files[0], "rb") as asked:
                    return json.load(asked)
            *others, reply = files
            for each in others:
                os.close(each)
            os.write(reply, NUMBER.pack(process))
            running[process] = reply


def tell_what_ended(running: dict[int, int]):
    while running:
        process, status = os.waitpid(-1, os.WNOHANG)
        if process == 0:
            return
        reply = running.pop(process)
        with suppress(BrokenPipeError):  # nobody waits for it
            os.write(reply, NUMBER.pack(os.waitstatus_to_exitcode(status)))
        os.close(reply)


def run(command: dict):
    """As `python WORDS` would: a module, code or a file."""
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["environment"])
    tempfile.tempdir = None  # imports may have looked for it
    if command["open_files"] is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (command["open_files"],) * 2)
    kind, *words = command["words"]
    if kind == "-m":
        sys.argv, sys.path[0] = words, command["folder"]
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv, sys.path[0] = ["-c", *words[1:]], ""
        exec(compile(words[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = [kind, *words], str(Path(kind).parent)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    main()
