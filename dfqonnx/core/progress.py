"""How a stage reports its progress to its caller, who decides what is shown.

A stage calls `start()` once, `advance()` for each unit of work, and `note()` for a message that
should stay visible. `SilentProgress` shows nothing; the command line draws with rich.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a stage: synthesize, initialize, distill, export, evaluate."""

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        """Begin `stage`, or change its total, which is `total` units of work with `done` done."""
        return

    def advance(self, units: int = 1, **figures: float) -> None:
        """Count `units` as done; `figures` are the latest loss, agreement and so on."""
        return

    def note(self, message: str) -> None:
        """Show a message that should stay visible."""
        return

    def warn(self, message: str) -> None:
        """Show a message that the user should act on."""
        return


class SilentProgress(Progress):
    """A `Progress` that shows nothing."""


class RecordingProgress:
    """A `Progress` that passes everything on and keeps the warnings for the report."""

    def __init__(self, to: Progress) -> None:
        self._to = to
        self.warnings: list[str] = []
        self.start, self.advance, self.note = to.start, to.advance, to.note

    def warn(self, message: str) -> None:
        """Keep the warning and pass it on."""
        self.warnings.append(message)
        self._to.warn(message)


@dataclass(frozen=True)
class StageTimer:
    """Wall-clock seconds by stage."""

    began: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time spent inside as that of stage `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start

    def total(self) -> dict[str, float]:
        """Return the seconds of every stage, and the total since the timer was made."""
        return {**self.seconds, "total": time.perf_counter() - self.began}
