"""How PyTorch's threads wait for each other: briefly, then asleep.

Threads of OpenMP that have done their share of an operator wait for the last one in a loop that
takes a whole core, for some milliseconds unless told otherwise. On a machine that is doing
something else as well, the thread that all wait for is the one that has no core. So they go to
sleep after `SPINS` turns, and at once where other processes leave fewer cores than there are
threads while the command line is loaded. Results do not depend on it.

Fifteen convolutions of 16 and 32 channels with BatchNormalization, forward and backward of 64
images of 32 x 32 on 2 threads of 2 cores, in milliseconds a step, two runs each:

    turns                                       0      3,000    10,000   30,000   100,000  default
    nothing else runs                          123       118       113      121       115      112
    another process takes one of the cores     242       285       345      550     1,140      372

One thread takes 205 beside the other process.

Source: the manual of GNU's OpenMP, "GOMP_SPINCOUNT", which is read once, when PyTorch is loaded.
"""

from __future__ import annotations

import os
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Self

import psutil

SPINS = "10000"  # tens of microseconds, about what an operator on a small tensor takes
SPINS_WHERE_BUSY = "0"
ENOUGH_OF_A_CORE = 0.5  # that other processes take: less is what any machine does on the side
CHOSEN_BY_USERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


@dataclass(frozen=True)
class ProcessorTimes:
    """Seconds since some moment, of the clock and of all processors."""

    clock: float
    busy: float  # of all processes, on all processors
    own: float  # of this process

    @classmethod
    def read(cls) -> Self:
        """Return the seconds until now."""
        system, own = psutil.cpu_times(), os.times()
        idle = system.idle + getattr(system, "iowait", 0.0)
        return cls(time.monotonic(), sum(system) - _counted_twice(system) - idle, sum(own[:2]))

    def taken_by_others_since(self, earlier: Self) -> float:
        """Return how many cores other processes took since then, as a mean."""
        passed = max(self.clock - earlier.clock, 1e-3)
        return max(0.0, (self.busy - earlier.busy - (self.own - earlier.own)) / passed)


def lacks_cores(taken: float, *, cores: int, threads: int) -> bool:
    """Return whether fewer cores are left than threads, where others take so many of them."""
    return taken >= ENOUGH_OF_A_CORE and cores - taken <= threads - ENOUGH_OF_A_CORE


def shorten_thread_waiting(
    earlier: ProcessorTimes | None = None, environment: MutableMapping[str, str] = os.environ
) -> None:
    """Let waiting threads sleep soon, unless the user's environment says how they wait.

    What other processes took is counted from `earlier` on; without it they are taken to be idle.
    """
    if any(name in environment for name in CHOSEN_BY_USERS):
        return
    taken = ProcessorTimes.read().taken_by_others_since(earlier) if earlier else 0.0
    busy = lacks_cores(taken, cores=psutil.cpu_count() or 1, threads=_count_threads(environment))
    environment["GOMP_SPINCOUNT"] = SPINS_WHERE_BUSY if busy else SPINS


def _count_threads(environment: MutableMapping[str, str]) -> int:
    """Return how many threads PyTorch will use: those asked for, else one a core."""
    asked = environment.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return min(cores, allowed)


def _counted_twice(system: object) -> float:
    """Return the seconds of virtual machines, which Linux counts as their owner's as well."""
    return float(getattr(system, "guest", 0.0)) + float(getattr(system, "guest_nice", 0.0))
