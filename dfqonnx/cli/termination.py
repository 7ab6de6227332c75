"""A request to terminate (SIGTERM) ends the process, wherever it arrives.

It becomes an exception, so that hidden folders are removed on the way out. Raised inside a callback
of a library, or while an object is torn down, an exception is printed and forgotten; so it is
raised again, a few times a second, until it is on its way: while it is being handled,
`sys.exception()` is it, and nothing is interrupted any more.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

AGAIN_SECONDS = 0.2


class Termination(SystemExit):
    """The process was asked to terminate."""


def exit_on_termination() -> None:
    """Let SIGTERM end the process with 143, from now on."""
    signal.signal(signal.SIGTERM, _raise)


def ignore_signals() -> None:
    """Let what is complete end as such: taking the process down takes a moment, too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def stop_repeating() -> None:
    """End the repetition: the exception is on its way, and a process that ends has no handler."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _raise(number: int, frame: FrameType | None) -> None:
    if isinstance(sys.exception(), Termination):
        return
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.signal(signal.SIGALRM, _raise)
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS, AGAIN_SECONDS)
    raise Termination(128 + signal.SIGTERM)
