"""Progress for people: a bar per stage in a terminal or a notebook.

`show_progress(None)` is what the functions of `dfqonnx` do by default: bars where somebody looks,
nothing in a log file or a test. A notebook without ipywidgets, which live bars need, gets a line
when a stage ends.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.errors import name_parameters
from dfqonnx.foreign_text import printable_lines


class ProgressBars(Progress):
    """A `Progress` that draws a bar per stage while it is entered as a context.

    >>> with ProgressBars() as bars:
    ...     bars.start("synthesize", 1)
    """

    def __init__(self, console: Console | None = None) -> None:
        self._bars = Bars(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=28),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}", style="dim"),
            console=console or Console(stderr=True, highlight=False, emoji=False),
            refresh_per_second=4,
        )
        self._stage, self._task = "", TaskID(-1)
        self._figures: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Draw a last time; the stage at work is complete unless an error ended it."""
        if kind is None:
            self._finish()
        self._bars.stop()

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        """Begin a stage, which ends the one before, or change the total of the one at work."""
        if stage != self._stage:
            self._finish()
            self._stage, self._figures = stage if total else "", {}
            if total:
                self._task = self._bars.add_task(stage, total=total, completed=done, figures="")
        elif total:
            self._bars.update(self._task, total=total, completed=done)

    def advance(self, units: int = 1, **figures: float) -> None:
        """Move the bar, and show the latest figures beside it."""
        if self._stage:
            self._figures.update(figures)
            text = ", ".join(f"{name} {value:.4g}" for name, value in self._figures.items())
            self._bars.update(self._task, advance=units, figures=text)

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(Text(printable_lines(name_parameters(message))))

    def warn(self, message: str) -> None:
        """Print a warning above the bars."""
        text = f"Warning: {printable_lines(name_parameters(message))}"
        self._bars.console.print(Text(text, style="yellow"))

    def _finish(self) -> None:
        if self._stage:
            (task,) = (task for task in self._bars.tasks if task.id == self._task)
            self._bars.update(self._task, completed=task.total)


class StageLines(Progress):
    """A `Progress` that prints a line when a stage ends, for notebooks without ipywidgets."""

    def __init__(self, console: Console) -> None:
        self._console, self._stage, self._began = console, "", 0.0

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        """Begin a stage; the line of the one before is printed."""
        if stage != self._stage:
            self.finish()
            self._stage, self._began = stage if total else "", time.perf_counter()

    def note(self, message: str) -> None:
        """Print a line."""
        self._console.print(Text(printable_lines(name_parameters(message))))

    def warn(self, message: str) -> None:
        """Print a warning."""
        self.note(f"Warning: {message}")

    def finish(self) -> None:
        """Print the line of the stage at work."""
        if self._stage:
            self.note(f"{self._stage} done in {time.perf_counter() - self._began:.1f} s")
        self._stage = ""


@contextmanager
def show_progress(progress: Progress | None) -> Iterator[Progress]:
    """Yield `progress`; for None bars in a terminal or a notebook, and else a silent one."""
    console = Console(stderr=True, highlight=False, emoji=False)
    if progress is not None:
        yield progress
    elif console.is_jupyter and importlib.util.find_spec("ipywidgets") is None:
        lines = StageLines(console)
        yield lines
        lines.finish()
    elif console.is_jupyter or console.is_terminal:
        with ProgressBars(console) as bars:
            yield bars
    else:
        yield SilentProgress()
