"""How a stage reports its progress to its caller, who decides what is shown.

A stage calls `start()` once, `advance()` for each unit of work, and `note()` for a message that
should stay visible. `SilentProgress` shows nothing; the command line draws with rich.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a stage: synthesize, initialize, distill, export, evaluate."""

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        """Begin `stage`, or change its total, which is `total` units of work with `done` done."""
        return

    def advance(self, units: int = 1, **figures: float) -> None:
        """Count `units` as done; `figures` are the latest loss, agreement and so on."""
        return

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Learn which stages are to come, and about how many seconds each takes."""
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
    """A `Progress` that passes everything on, and keeps warnings and seconds for the report."""

    def __init__(self, to: Progress) -> None:
        self._to = to
        self._began = time.perf_counter()
        self._starts: list[tuple[str, float]] = []
        self.warnings: list[str] = []
        self.advance, self.note, self.expect = to.advance, to.note, to.expect

    def begin_anew(self) -> RecordingProgress:
        """Return one for another target, which has recorded nothing."""
        return RecordingProgress(self._to)

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        """Note the time and pass the stage on."""
        self._starts.append((stage, time.perf_counter()))
        self._to.start(stage, total, done=done)

    def warn(self, message: str) -> None:
        """Keep the warning and pass it on."""
        self.warnings.append(message)
        self._to.warn(message)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage, from its start to that of the next, and the total."""
        now = time.perf_counter()
        ends = [*(start for _, start in self._starts[1:]), now]
        found: dict[str, float] = {}
        for (stage, start), end in zip(self._starts, ends, strict=True):
            found[stage] = found.get(stage, 0.0) + end - start
        return {**found, "total": now - self._began}
