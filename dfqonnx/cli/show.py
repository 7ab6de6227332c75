"""What the user sees while a command works, and how results are printed.

A terminal gets a live bar per stage, a pipe or a log file a plain line about every ten seconds, and
`--quiet` only warnings. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from dfqonnx.core.run_outline import STAGES
from dfqonnx.foreign_text import json_safe, printable, printable_lines

EVERY_SECONDS = 10.0
WHOLE = "whole run"
ENOUGH_DONE = 2.0  # percent, before a time left is worth showing
TRUSTED_SHARE = 0.1  # of a stage, from which on its own pace tells when it ends


def print_text(text: str, *, style: str = "") -> None:
    """Print a line on stdout; it is not wrapped, and names in it are never read as markup."""
    _console(sys.stdout).print(
        printable_lines(text), style=style or None, markup=False, soft_wrap=True
    )


def announce(lines: Iterable[str]) -> None:
    """Write lines on stderr at once."""
    for line in lines:
        sys.stderr.write(f"{printable_lines(line)}\n")
    sys.stderr.flush()


def print_layout(layout: RenderableType) -> None:
    """Print a rich table or group on stdout, wrapped to the width of a terminal."""
    _console(sys.stdout).print(layout)


def print_json(value: Any) -> None:
    """Print `value` on stdout as JSON, paths in it as text."""
    sys.stdout.write(json_safe(json.dumps(value, indent=2, default=str)) + "\n")


def print_table(
    headings: list[str], rows: list[tuple[str, ...]], *, texts: int = 1, bold: int = -1
) -> None:
    """Print a table whose columns after the first `texts` are numbers; one row may be bold."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    for column, heading in enumerate(headings):
        table.add_column(heading, justify="left" if column < texts else "right")
    for index, row in enumerate(rows):
        table.add_row(
            *(Text(printable(cell)) for cell in row), style="bold" if index == bold else ""
        )
    print_layout(table)


def _console(stream: Any) -> Console:
    """Return a console that does not wrap at 80 columns when its stream is piped."""
    console = Console(file=stream, highlight=False, emoji=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(file=stream, highlight=False, emoji=False, width=160, color_system=None)
    return console


def time_left(done: int, total: int, seconds: float) -> str:
    """Return the time left at the pace so far, as `m:ss left`; empty before anything is done."""
    if done <= 0 or total <= 0:
        return ""
    return f"{minutes(seconds * max(total - done, 0) / done)} left"


def minutes(seconds: float) -> str:
    """Return a time as `m:ss`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Display:
    """Counts the progress of a stage and shows only warnings.

    Subclasses show the stage as well, through `_open`, `_update` and `_close`.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.stage = ""
        self.total = self.done = self.done_at_start = 0
        self.began = self.started = 0.0
        self.figures: dict[str, float] = {}
        self.expected: dict[str, float] = {}  # seconds of every stage, as far as known

    def start(self, stage: str, total: int, *, done: int = 0) -> None:
        """Begin `stage` and close the one before; the same stage goes on with another total.

        A stage without any work is not shown.
        """
        if not total:
            self.finish()
            return
        is_new = stage != self.stage
        if is_new:
            self.finish()
            self.stage, self.began, self.figures = stage, self.clock(), {}
        self.total, self.done, self.done_at_start = total, done, done
        self.started = self.clock()
        if is_new:
            self._open()
        self._update()

    def advance(self, units: int = 1, **figures: float) -> None:
        """Count `units`, and keep the latest figures."""
        self.done += units
        self.figures.update(figures)
        if self.stage:
            self._update()

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Learn which stages are to come, and about how many seconds each takes."""
        self.expected = dict(seconds)

    def note(self, message: str) -> None:
        """Show a line that stays, unless only results are wanted."""

    def warn(self, message: str) -> None:
        """Show a warning."""
        sys.stderr.write(f"Warning: {printable_lines(message)}\n")

    def finish(self) -> None:
        """Close the current stage."""
        if self.stage:
            self._close()
        self.stage = ""

    def line(self) -> str:
        """Return `120/300 40 %, loss 0.123, 0:35 left`."""
        share = f" {100 * self.done // self.total} %"
        figures = [f"{name} {value:.4g}" for name, value in self.figures.items()]
        done, total = self.done - self.done_at_start, self.total - self.done_at_start
        known = 100 * done > ENOUGH_DONE * total
        rest = time_left(done, total, self.clock() - self.started) if known else ""
        return ", ".join([f"{self.done}/{self.total}{share}", *figures, *([rest] if rest else [])])

    def _open(self) -> None: ...

    def _update(self) -> None: ...

    def _close(self) -> None: ...


class JsonDisplay(Display):
    """Writes warnings as JSON lines on stderr."""

    def warn(self, message: str) -> None:
        """Write a warning as JSON."""
        sys.stderr.write(json_safe(json.dumps({"warning": message})) + "\n")


class PlainDisplay(Display):
    """Writes one line about every ten seconds, for pipes, log files and CI."""

    _last = 0.0

    def note(self, message: str) -> None:
        """Write a line."""
        sys.stderr.write(f"{printable_lines(message)}\n")

    def _open(self) -> None:
        self._last = self.clock()
        sys.stderr.write(f"{self.stage} ...\n")

    def _update(self) -> None:
        if self.clock() - self._last >= EVERY_SECONDS and self.done < self.total:
            self._last = self.clock()
            sys.stderr.write(f"{self.stage} {self.line()}\n")

    def _close(self) -> None:
        figures = "".join(f", {name} {value:.4g}" for name, value in self.figures.items())
        sys.stderr.write(f"{self.stage} done in {self.clock() - self.began:.1f} s{figures}\n")


class LiveDisplay(Display):
    """Draws one bar for the whole with rich, and a bar per stage under it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        self.bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[line]}", style="dim"),
            console=_console(sys.stderr),
            refresh_per_second=8,
        )
        self.task: TaskID | None = None
        self.whole: TaskID | None = None
        self.began_all = 0.0
        self.over = self.spent_over = 0.0  # seconds of stages that are over: expected, and real

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Draw the bar for the whole; the stage at work is over."""
        self.finish()
        super().expect(seconds)
        if self.whole is None and sum(seconds.values()) > 0:
            self.began_all = self.clock()
            self.whole = self.bars.add_task(WHOLE, total=100.0, line="")

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self.bars.console.print(Text(printable_lines(message)))

    def warn(self, message: str) -> None:
        """Print a warning above the bars."""
        self.bars.console.print(Text(f"Warning: {printable_lines(message)}", style="yellow"))

    def _open(self) -> None:
        names = list(self.expected)
        for skipped in names[: names.index(self.stage) if self.stage in names else 0]:
            del self.expected[skipped]
        self.task = self.bars.add_task(
            f"  {STAGES.get(self.stage, self.stage)}", total=None, line=""
        )

    def _update(self) -> None:
        if self.task is not None:
            line = self.line() if self.done else ""
            self.bars.update(self.task, total=self.total, completed=self.done, line=line)
        self._update_whole(self.done / self.total if self.total else 0.0)

    def _update_whole(self, share: float) -> None:
        """Draw how much of everything is done, `share` of the current stage included."""
        if self.whole is None:
            return
        spent, left = self.clock() - self.began_all, self._seconds_left(min(1.0, share))
        done = 100 * spent / max(spent + left, 1e-6)
        text = f"{done:.0f} %" + (f", {minutes(left)} left" if done > ENOUGH_DONE else "")
        self.bars.update(self.whole, completed=done, line=text)

    def _seconds_left(self, share: float) -> float:
        """Return the seconds of what is to come, by the pace of what is over.

        A stage that is on its way tells its own pace, as far as it has come.
        """
        pace = self.spent_over / self.over if self.over > 0 else 1.0
        later = pace * sum(s for name, s in self.expected.items() if name != self.stage)
        if not self.stage:
            return later
        spent = self.clock() - self.began
        by_plan = max(0.0, pace * self.expected.get(self.stage, 0.0) - spent)
        if share <= 0:
            return later + by_plan
        by_pace = spent * (1 - share) / share
        trust = min(1.0, share / TRUSTED_SHARE)
        return later + trust * by_pace + (1 - trust) * by_plan

    def _close(self) -> None:
        if self.task is not None:
            spent = f"{self.clock() - self.began:.1f} s"
            self.bars.update(self.task, total=1, completed=1, line=spent)
        expected = self.expected.pop(self.stage, 0.0)
        if expected > 0:
            self.over += expected
            self.spent_over += self.clock() - self.began
        self.stage = ""
        self._update_whole(0.0)


@contextmanager
def display(*, quiet: bool, as_json: bool) -> Iterator[Display]:
    """Choose how progress is shown, and leave the terminal as it was."""
    if as_json:
        yield JsonDisplay()
    elif quiet:
        yield Display()
    elif sys.stderr.isatty():
        live = LiveDisplay()
        with live.bars:
            yield live
            live.finish()
    else:
        plain = PlainDisplay()
        yield plain
        plain.finish()
