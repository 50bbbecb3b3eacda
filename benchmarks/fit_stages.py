"""The stages of `adaptclip fit` in seconds: what a profile of so many photos takes, and where.

    python benchmarks/fit_stages.py --normal good/
    python benchmarks/fit_stages.py --normal good/ -- --dtype bfloat16 --tile 518

Runs the command in this process, into a folder that is removed. What stands after `--` goes to the command. Both clocks
are shown, since machines are shared: the second one counts the seconds of all processors. Stages that lie in others are
counted once, in the inner one.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")
START = time.perf_counter(), time.process_time()

# stage -> (module, or module:class; name) of what takes its time, where it is looked up
STAGES: dict[str, list[tuple[str, str]]] = {
    "loading the model": [("adaptclip_hf.cli.argument_types", "load_detector")],
    "reading photos": [
        ("adaptclip_hf.engine.images:ImageReader", "load"),
        ("adaptclip_hf.engine.images:ImageReader", "pixel_values"),
    ],
    "digests, sketches, looks": [
        ("adaptclip_hf.inspection.photo_features", "pixel_digest"),
        ("adaptclip_hf.inspection.photo_features", "sketch"),
        ("adaptclip_hf.inspection.photo_features:Looks", "add"),
    ],
    "encoding good photos": [("adaptclip_hf.engine.scoring", "encode")],
    "encoding turned copies": [("adaptclip_hf.engine.turned_copies", "encode")],
    "choosing among turned copies": [("adaptclip_hf.engine.turned_copies:TurnedCopies", "add")],
    "comparing all with all": [("adaptclip_hf.inspection.fitting", "compared_bank")],
    "calibrating": [("adaptclip_hf.inspection.fitting", "calibrate")],
    "half of the bank": [("adaptclip_hf.inspection.pasting", "half_of")],
    "pasting defects": [("adaptclip_hf.inspection.pasting", "spoil")],
    "encoding pasted defects": [("adaptclip_hf.inspection.pasting", "encode")],
    "scoring pasted defects": [("adaptclip_hf.inspection.pasting", "compared")],
    "where good photos differ": [("adaptclip_hf.inspection.pasting", "differing_place")],
    "writing": [("adaptclip_hf.inspection.profile:InspectionProfile", "save_pretrained")],
}


class Stages:
    """Seconds on the clock and of processors, by stage; the rest of the process is `others`.

    Attributes:
        seconds: stage -> [clock, processors, calls].
    """

    def __init__(self, others: str):
        self.seconds = {others: [0.0, 0.0, 1], **{name: [0.0, 0.0, 0] for name in STAGES}}
        self._running, self._since = [others], START

    def timed(self, name: str, function: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(function)
        def call(*args: Any, **options: Any) -> Result:
            self._switch()
            self._running.append(name)
            self.seconds[name][2] += 1
            try:
                return function(*args, **options)
            finally:
                self._switch()
                self._running.pop()

        return call

    def _switch(self):
        """Counts the time since the last switch for the stage that runs."""
        now, counted = (time.perf_counter(), time.process_time()), self.seconds[self._running[-1]]
        for clock in (0, 1):
            counted[clock] += now[clock] - self._since[clock]
        self._since = now

    def table(self) -> str:
        self._switch()
        rows = [(name, *values) for name, values in self.seconds.items()]
        rows.append(("all", *(sum(values[clock] for values in self.seconds.values()) for clock in (0, 1)), 1))
        lines = [
            f"| {name} | {calls} | {clock:.2f} | {processors:.2f} |" for name, clock, processors, calls in rows if calls
        ]
        return "\n".join(["| stage | calls | s on the clock | s of processors |", "|---|---|---|---|", *lines])


def main() -> int:
    own, more = split_at(sys.argv[1:], "--")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--normal", nargs="+", required=True, metavar="PATH", help="photos of good parts")
    args = parser.parse_args(own)
    from adaptclip_hf.cli import main as command

    stages = Stages("starting and all else")
    for name, places in STAGES.items():
        for where, what in places:
            replace_by(where, what, lambda function, name=name: stages.timed(name, function))
    with tempfile.TemporaryDirectory() as folder:
        call = ["fit", "--normal", *args.normal, "--output", str(Path(folder) / "profile"), "--quiet", *more]
        status = command(call)
    print(stages.table())
    return status


def split_at(values: list[str], mark: str) -> tuple[list[str], list[str]]:
    at = values.index(mark) if mark in values else len(values)
    return values[:at], values[at + 1 :]


def replace_by(where: str, name: str, wrapper: Callable[[Callable], Callable]):
    module, _, owner = where.partition(":")
    holder = import_module(module)
    holder = getattr(holder, owner) if owner else holder
    setattr(holder, name, wrapper(getattr(holder, name)))


if __name__ == "__main__":
    sys.exit(main())
