"""What is seen of a sweep while it runs: a live table in a terminal, lines in a log.

The table shows what runs now and what ended last; with ten thousand tasks as with ten it fits a
screen.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dfqonnx.cli.show import minutes
from dfqonnx.foreign_text import printable, printable_lines

if TYPE_CHECKING:
    from dfqonnx.config.sweep_file import SweepTask
    from dfqonnx.jobs.job import JobEvent
    from dfqonnx.report.sweep_result import SweepRow

MOST_RUNNING, MOST_ENDED = 16, 8


class SweepScreen:
    """Counts what becomes of tasks, and shows nothing."""

    def __init__(self) -> None:
        self.total = 0
        self.counts: Counter[str] = Counter()
        self.running: dict[str, tuple[float, str, str, int]] = {}  # since, stage, where, attempt
        self.ended: list[SweepRow] = []
        self.began = time.monotonic()

    def begin(self, tasks: Sequence[SweepTask], known: Mapping[str, SweepRow]) -> None:
        """Learn the tasks, and the rows of those that are complete already."""
        self.total = len(tasks)
        self.counts.update(row.status for row in known.values())
        if known:
            self.note(f"{len(known)} of {self.total} tasks are complete already.")

    def event(self, event: JobEvent) -> None:
        """Learn what an engine told of a task."""
        if event.state in {"started", "at"}:
            since = self.running.get(event.name, (time.monotonic(), "", "", 1))[0]
            self.running[event.name] = (since, event.text, event.where, event.attempt)
            if event.state == "started" and event.attempt > 1:
                self.note(f"{event.name}: its worker was lost; attempt {event.attempt} began.")

    def row(self, row: SweepRow) -> None:
        """Learn how a task ended."""
        self.running.pop(row.task, None)
        self.counts[row.status] += 1
        self.ended.append(row)
        self.show_row(row)

    def note(self, message: str) -> None:
        """Show a line."""

    def show_row(self, row: SweepRow) -> None:
        """Show how a task ended."""

    def head(self) -> str:
        """Return `7/12: 6 complete, 1 failed; 2 running; 1:30`."""
        done = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        spent = minutes(time.monotonic() - self.began)
        words = [done] if done else []
        words += [f"{len(self.running)} running"] if self.running else []
        return f"{sum(self.counts.values())}/{self.total}: {'; '.join([*words, spent])}"


class PlainScreen(SweepScreen):
    """Writes a line on stderr for every task that ends."""

    def note(self, message: str) -> None:
        """Write a line."""
        sys.stderr.write(f"{printable_lines(message)}\n")
        sys.stderr.flush()

    def show_row(self, row: SweepRow) -> None:
        """Write how a task ended."""
        reason = f": {row.reason}" if row.reason else ""
        self.note(f"{self.head()}: {row.task} {row.status}{reason}")


class LiveScreen(SweepScreen):
    """Draws a table that changes in place."""

    def __init__(self) -> None:
        super().__init__()
        console = Console(file=sys.stderr, highlight=False, emoji=False)
        self.live = Live(console=console, get_renderable=self._draw, refresh_per_second=4)

    def note(self, message: str) -> None:
        """Print a line above the table."""
        self.live.console.print(Text(printable_lines(message)))

    def _draw(self) -> RenderableType:
        table = Table(box=box.SIMPLE, pad_edge=False)
        for heading in ("task", "state", "time", "where"):
            table.add_column(heading, no_wrap=True)
        for row in self.ended[-MOST_ENDED:]:
            seconds = row.figures.get("seconds")
            spent = "" if seconds is None else minutes(seconds)
            cells: tuple[str, ...] = (row.task, row.status, spent, row.where)
            table.add_row(*(Text(printable(cell)) for cell in cells), style="dim")
        now = time.monotonic()
        for name, (since, stage, where, attempt) in list(self.running.items())[:MOST_RUNNING]:
            state = stage or "begins"
            state += f" (attempt {attempt})" if attempt > 1 else ""
            cells = (name, state, minutes(now - since), where)
            table.add_row(*(Text(printable(cell)) for cell in cells))
        return Group(table, Text(self.head()))


@contextmanager
def open_screen(*, quiet: bool, as_json: bool) -> Iterator[SweepScreen]:
    """Choose how a sweep is shown, and leave the terminal as it was."""
    if quiet or as_json:
        yield SweepScreen()
    elif sys.stderr.isatty():
        screen = LiveScreen()
        with screen.live:
            yield screen
    else:
        yield PlainScreen()
