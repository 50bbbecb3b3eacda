"""Commands in processes of their own that need not import torch and transformers each, which takes five seconds.

They are forked from a program that has them (`preloaded.py`). What is about imports or a launcher starts Python itself.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

from preloaded import NUMBER

CLI = ("-m", "adaptclip_hf.cli")


class Preloaded:
    """Starts commands; imports are those of an environment, which libraries look at when they are imported."""

    def __init__(self, environment: dict[str, str]):
        ours, theirs = socket.socketpair()
        program = [sys.executable, str(Path(__file__).with_name("preloaded.py")), str(theirs.fileno())]
        self.program = subprocess.Popen(program, env=environment, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        self.channel = ours
        atexit.register(self.close)

    def close(self):
        self.channel.close()
        self.program.wait()

    def start(
        self,
        *words,
        folder: Path | str = ".",
        environment: dict[str, str] | None = None,
        stdout=None,
        stderr=None,
        open_files: int | None = None,
    ) -> "Command":
        """Starts `python WORDS`.

        Args:
            environment: all of it, that of the tests by default.
            stdout, stderr: open files, those of the tests by default.
            open_files: how many the process may have at a time.
        """
        asked = {"words": [str(word) for word in words], "folder": str(Path(folder).resolve())}
        asked |= {"environment": dict(environment or os.environ), "open_files": open_files}
        reply, theirs = os.pipe()
        with TemporaryFile() as command:
            command.write(json.dumps(asked).encode())
            command.seek(0)
            outputs = [1 if stdout is None else stdout.fileno(), 2 if stderr is None else stderr.fileno()]
            socket.send_fds(self.channel, [b"."], [command.fileno(), *outputs, theirs])
        os.close(theirs)
        return Command(words, reply)


class Command:
    """A running process, to be asked as one of `subprocess.Popen`."""

    def __init__(self, words, reply: int):
        self.words, self.reply = words, reply
        self.returncode: int | None = None
        content = os.read(reply, NUMBER.size)
        assert content, "the program that forks commands has ended"
        [self.pid] = NUMBER.unpack(content)

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(self.words, timeout)
        return self.returncode

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self.reply], [], [], timeout)[0]:
            [self.returncode] = NUMBER.unpack(os.read(self.reply, NUMBER.size))
            os.close(self.reply)
        return self.returncode

    def send_signal(self, number: int):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


@cache
def preloaded() -> Preloaded:
    """The one of these tests, of one thread."""
    return Preloaded(os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})


def start_python(*words, **options) -> Command:
    """Starts `python WORDS`; see [`Preloaded.start`]."""
    return preloaded().start(*words, **options)


def run_python(*words, by: Preloaded | None = None, timeout: float = 300, **options) -> subprocess.CompletedProcess:
    """Runs `python WORDS` to its end; gives status and what was printed."""
    with TemporaryFile() as out, TemporaryFile() as errors:
        command = (by or preloaded()).start(*words, stdout=out, stderr=errors, **options)
        status = command.wait(timeout)
        texts = []
        for file in (out, errors):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess(words, status, *texts)


def launch(*words) -> subprocess.CompletedProcess:
    """Runs `torchrun --nproc_per_node 2 WORDS`."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)
