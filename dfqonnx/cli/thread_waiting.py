"""How PyTorch's threads wait for each other: briefly, then asleep.

Threads of OpenMP that have done their share of an operator wait for the last one in a loop that
takes a whole core, for some milliseconds unless told otherwise. On a machine that is doing
something else as well, the thread that all wait for is the one that has no core. Twelve layers of
16 channels, forward and backward on 2 threads of 2 cores that other jobs held, took 21 to 31 s
that way and 6 to 8 s when threads went to sleep after `SPINS` turns, at a third of the processor
time; one thread alone took 3.5 to 5 s.

Source: the manual of GNU's OpenMP, "GOMP_SPINCOUNT", which is read once, when PyTorch is loaded.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

SPINS = "10000"  # tens of microseconds, about what an operator on a small tensor takes
CHOSEN_BY_USERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def shorten_thread_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads sleep soon, unless the user's environment says how they wait."""
    if not any(name in environment for name in CHOSEN_BY_USERS):
        environment["GOMP_SPINCOUNT"] = SPINS
