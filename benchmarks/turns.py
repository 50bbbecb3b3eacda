"""Jobs that are timed in turn, so that a machine whose speed drifts is slower for all alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def in_turn(
    jobs: Mapping[Name, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[Name, list[float]]:
    """Seconds of each job in so many rounds, after one that is not counted."""
    seconds: dict[Name, list[float]] = {name: [] for name in jobs}
    for round_ in range(rounds + 1):
        for name, job in jobs.items():
            begun = clock()
            job()
            if round_:
                seconds[name].append(clock() - begun)
    return seconds
