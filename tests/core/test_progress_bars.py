"""Bars of stages: what a terminal, a notebook and a log file get."""

from __future__ import annotations

import io
import sys

import pytest
from rich.console import Console

from dfqonnx.core.progress import Progress, SilentProgress
from dfqonnx.core.progress_bars import ProgressBars, StageLines, show_progress


def work(progress: Progress) -> None:
    progress.start("synthesize", 2)
    progress.advance(1, loss=0.5)
    progress.warn("--preprocess was not given [bold]")
    progress.start("distill", 3, done=1)
    progress.start("distill", 4, done=1)
    progress.advance(3, agreement=0.875)
    progress.start("nothing", 0)
    progress.advance()


def test_bars_show_every_stage_with_its_figures_and_warnings_in_pythons_words() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    with ProgressBars(console) as bars:
        work(bars)
    shown = stream.getvalue()
    for words in ("synthesize", "loss 0.5", "distill", "agreement 0.875"):
        assert words in shown
    assert "Warning: preprocess was not given [bold]" in shown
    assert "nothing" not in shown


def test_a_stage_that_an_error_ends_is_not_shown_as_complete() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    bars = ProgressBars(console)

    def fail() -> None:
        with bars:
            bars.start("distill", 4)
            bars.advance()
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(task.completed, task.total) for task in bars._bars.tasks] == [(1, 4)]


def test_a_notebook_without_widgets_gets_a_line_per_stage() -> None:
    stream = io.StringIO()
    lines = StageLines(Console(file=stream, width=100))
    work(lines)
    lines.finish()
    found = stream.getvalue().splitlines()
    assert [line.split(" done")[0] for line in found] == [
        "Warning: preprocess was not given [bold]", "synthesize", "distill",
    ]  # fmt: skip


def test_nobody_looks_at_a_log_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with show_progress(None) as shown:
        assert isinstance(shown, SilentProgress)
    own = SilentProgress()
    with show_progress(own) as shown:
        assert shown is own


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with show_progress(None) as shown:
        assert isinstance(shown, ProgressBars)
