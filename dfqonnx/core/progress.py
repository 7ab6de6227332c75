"""How a stage tells its caller how far it is; the caller decides what is shown.

A stage takes a `Progress` and calls `start(total)` once, `advance()` per unit of work, `note()` for
a line worth keeping. `SilentProgress` shows nothing; the command line brings one drawn with rich.

Wall-clock seconds by stage.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol


class Progress(Protocol):
    """What a stage reports to."""

    def start(self, stage: str, total: int) -> None:
        """Begin `stage`, which will take `total` units of work."""

    def advance(self, units: int = 1, **figures: float) -> None:
        """Say that `units` are done; `figures` are the latest loss, agreement and so on."""

    def note(self, message: str) -> None:
        """Say something that should stay visible."""

    def warn(self, message: str) -> None:
        """Say something that the user should act on."""


class SilentProgress:
    """A `Progress` that shows nothing."""

    def start(self, stage: str, total: int) -> None:
        """Ignore."""

    def advance(self, units: int = 1, **figures: float) -> None:
        """Ignore."""

    def note(self, message: str) -> None:
        """Ignore."""

    def warn(self, message: str) -> None:
        """Ignore."""


class RecordingProgress:
    """A `Progress` that passes everything on and keeps the warnings, for the report.

    Attributes:
        warnings: every warning so far, in order.
    """

    def __init__(self, to: Progress) -> None:
        self._to = to
        self.warnings: list[str] = []

    def start(self, stage: str, total: int) -> None:
        """Pass on."""
        self._to.start(stage, total)

    def advance(self, units: int = 1, **figures: float) -> None:
        """Pass on."""
        self._to.advance(units, **figures)

    def note(self, message: str) -> None:
        """Pass on."""
        self._to.note(message)

    def warn(self, message: str) -> None:
        """Keep and pass on."""
        self.warnings.append(message)
        self._to.warn(message)


@dataclass(frozen=True)
class StageTimer:
    """Seconds by stage."""

    began: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens inside as `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start

    def total(self) -> dict[str, float]:
        """Return every stage, and the total since the beginning."""
        return {**self.seconds, "total": time.perf_counter() - self.began}
