"""The processors of this machine: how many this process may use, and how many of them other programs leave.

It imports no torch, and what it decides must be decided before torch is imported.
"""

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Timer
from typing import NamedTuple

from .reporting import Report

THREADS = "OMP_NUM_THREADS"  # read once by torch when it is imported, and by the runners of exported models
SHORTEST = 0.1  # seconds of looking at the load: the system counts hundredths
STAT, GROUPS, TOPOLOGY = Path("/proc/stat"), Path("/sys/fs/cgroup"), Path("/sys/devices/system/cpu")
BUSY = (1, 2, 3, 6, 7, 8)  # columns of /proc/stat: user, nice, system, irq, softirq, steal

BUSY_SHARE = 0.5  # of the cores that others take, above which it is told

Cores = Sequence[frozenset[int]]


class Usage(NamedTuple):
    """What the processors have done since the system's start.

    Attributes:
        moment: when this was read, in seconds.
        own: processor seconds of this process.
        busy: processor number -> seconds.
    """

    moment: float
    own: float
    busy: dict[int, float]


def usage(stat: Path = STAT) -> Usage | None:
    """What the processors have done until now; `None` where the system does not tell."""
    try:
        lines = [line.split() for line in stat.read_text().splitlines()]
        tick = 1 / os.sysconf("SC_CLK_TCK")
        numbered = [line for line in lines if line and re.fullmatch(r"cpu\d+", line[0])]
        busy = {int(line[0][3:]): tick * sum(int(line[column]) for column in BUSY) for line in numbered}
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return Usage(time.monotonic(), time.process_time(), busy) if busy else None


def taken_by_others(before: Usage, after: Usage, cores: Cores) -> float:
    """How many of some cores other programs have used between two moments, on average."""
    seconds = after.moment - before.moment
    shares = (sum(after.busy.get(cpu, 0.0) - before.busy.get(cpu, 0.0) for cpu in core) / seconds for core in cores)
    own = (after.own - before.own) / seconds
    return max(0.0, sum(min(1.0, share) for share in shares) - own)


def own_cores() -> Cores:
    """The cores that this process may run on, each as the numbers of its processors."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return list(dict.fromkeys(siblings(cpu) & set(allowed) for cpu in sorted(allowed)))


def siblings(cpu: int) -> frozenset[int]:
    """The processors that share a core with one, which is among them."""
    try:
        text = (TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list").read_text()
        spans = [span.split("-") for span in text.strip().split(",")]
        return frozenset({cpu}.union(*(range(int(span[0]), int(span[-1]) + 1) for span in spans)))
    except (OSError, ValueError):
        return frozenset({cpu})


def quota(groups: Path = GROUPS, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """How many processors a container or service may use at a time, by all of its groups; `None` without a limit."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines() if line.count(":") > 1]
    except OSError:
        return None
    return min((limit for *_, names, path in lines for limit in limits(groups, names, path)), default=None)


def limits(groups: Path, names: str, path: str) -> Iterator[float]:
    """The limits of a group and of those above it.

    Args:
        names: of its controllers; empty in version 2.
    """
    root = groups / names
    for group in (root / path.strip("/"), *(root / path.strip("/")).parents):
        if names and "cpu" not in names.split(","):
            return
        try:
            if names:
                parts = [(group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")]
            else:
                parts = (group / "cpu.max").read_text().split()
            if float(parts[0]) > 0:
                yield float(parts[0]) / float(parts[1])
        except (OSError, ValueError, IndexError, ZeroDivisionError):  # no limit is "max", or -1
            pass
        if group == root:
            return


def leave_room(before: Usage | None, report: Report):
    """Lets this process compute with as many threads as it may use cores, and tells where other programs take most.

    Their threads are not counted off: since ours sleep while they wait, two beside four busy programs on two cores took
    1.1 times as long as one, and 0.7 times beside thirteen. Who has set `OMP_NUM_THREADS` is obeyed, and where torch is
    imported it is too late. What others take is told a moment later, from another thread, so that nothing waits for it.

    Args:
        before: of [`usage`], a moment ago.
    """
    if os.environ.get(THREADS) or "torch" in sys.modules:
        return
    cores, limit = own_cores(), quota()
    if limit is not None and limit < len(cores):
        os.environ[THREADS] = str(max(1, round(limit)))
    if before is None:
        return
    seconds = max(0.0, before.moment + SHORTEST - time.monotonic())
    looking = Timer(seconds, tell_if_busy, (before, cores, report))
    looking.daemon = True
    looking.start()


def tell_if_busy(before: Usage, cores: Cores, report: Report):
    """Says where other programs have taken most of some cores since a moment."""
    after = usage()
    taken = 0.0 if after is None else taken_by_others(before, after, cores)
    if taken > BUSY_SHARE * len(cores):
        report(
            f"this machine is busy: other programs take {taken:.1f} of {len(cores)} processors, and this takes longer "
            f"({THREADS}=1 leaves them more)"
        )


__all__ = ["Usage", "leave_room", "usage"]
