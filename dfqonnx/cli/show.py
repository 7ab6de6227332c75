"""What the user sees while a command works.

A live line per stage on a terminal, a plain line about every ten seconds elsewhere, only warnings
with `--quiet`. Results go to stdout, all else to stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

EVERY_SECONDS = 10.0


def stdout() -> Console:
    """Return the console for results: no wrapping at 80 columns when piped."""
    return _console(sys.stdout)


def _console(stream: Any) -> Console:
    console = Console(file=stream, highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(file=stream, highlight=False, width=160, color_system=None)
    return console


def say_json(value: Any) -> None:
    """Print `value` on stdout as JSON."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def left(done: int, total: int, seconds: float) -> str:
    """Return the time left at the pace so far, as `m:ss`; empty before anything is done."""
    if done <= 0 or total <= 0:
        return ""
    rest = seconds * max(total - done, 0) / done
    return f"{int(rest) // 60}:{int(rest) % 60:02d} left"


class Display:
    """Base of the three ways to show progress: counts; `_stage` and `_paint` draw."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.stage = ""
        self.total = self.done = 0
        self.began = 0.0
        self.figures: dict[str, float] = {}

    def start(self, stage: str, total: int) -> None:
        """Begin `stage`, closing the one before."""
        self.finish()
        self.stage, self.total, self.done, self.figures = stage, total, 0, {}
        self.began = self.clock()
        self._stage()

    def advance(self, units: int = 1, **figures: float) -> None:
        """Count `units`, keep the latest figures."""
        self.done += units
        self.figures.update(figures)
        self._paint()

    def note(self, message: str) -> None:
        """Show a line that stays, except where only results are wanted."""

    def warn(self, message: str) -> None:
        """Show a warning."""
        sys.stderr.write(f"Warning: {message}\n")

    def finish(self) -> None:
        """Close the current stage."""
        if self.stage:
            self._close()
        self.stage = ""

    def line(self) -> str:
        """Return `120/300 40 %, loss 0.123, 0:35 left`."""
        share = f" {100 * self.done // self.total} %" if self.total else ""
        figures = [f"{name} {value:.4g}" for name, value in self.figures.items()]
        rest = left(self.done, self.total, self.clock() - self.began)
        return ", ".join([f"{self.done}/{self.total}{share}", *figures, *([rest] if rest else [])])

    def _stage(self) -> None: ...

    def _paint(self) -> None: ...

    def _close(self) -> None: ...


class QuietDisplay(Display):
    """Only warnings."""


class JsonDisplay(Display):
    """Warnings as JSON lines on stderr."""

    def warn(self, message: str) -> None:
        """Write a warning as JSON."""
        sys.stderr.write(json.dumps({"warning": message}) + "\n")


class PlainDisplay(Display):
    """One line now and then: pipes, log files, CI."""

    _last = 0.0

    def note(self, message: str) -> None:
        """Write a line."""
        sys.stderr.write(f"{message}\n")

    def _stage(self) -> None:
        self._last = self.clock()
        sys.stderr.write(f"{self.stage} ...\n")

    def _paint(self) -> None:
        if self.clock() - self._last >= EVERY_SECONDS and self.done < self.total:
            self._last = self.clock()
            sys.stderr.write(f"{self.stage} {self.line()}\n")

    def _close(self) -> None:
        figures = "".join(f", {name} {value:.4g}" for name, value in self.figures.items())
        sys.stderr.write(f"{self.stage} done in {self.clock() - self.began:.1f} s{figures}\n")


class LiveDisplay(Display):
    """A bar per stage, drawn by rich."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        self.bars = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[line]}", style="dim"),
            console=_console(sys.stderr),
            refresh_per_second=8,
        )
        self.task: TaskID | None = None

    def note(self, message: str) -> None:
        """Print above the bars."""
        self.bars.console.print(Text(message))

    def warn(self, message: str) -> None:
        """Print a warning above the bars."""
        self.bars.console.print(Text(f"Warning: {message}", style="yellow"))

    def _stage(self) -> None:
        self.task = self.bars.add_task(self.stage, total=self.total or None, line="")

    def _paint(self) -> None:
        if self.task is not None:
            self.bars.update(self.task, completed=self.done, line=self.line())

    def _close(self) -> None:
        if self.task is not None:
            spent = f"{self.clock() - self.began:.1f} s"
            self.bars.update(self.task, total=1, completed=1, line=spent)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()


@contextmanager
def display(*, quiet: bool, as_json: bool) -> Iterator[Display]:
    """Choose how to show progress, and leave the terminal as it was."""
    if as_json:
        yield JsonDisplay()
    elif quiet:
        yield QuietDisplay()
    elif sys.stderr.isatty():
        with LiveDisplay() as live:
            yield live
            live.finish()
    else:
        plain = PlainDisplay()
        yield plain
        plain.finish()
