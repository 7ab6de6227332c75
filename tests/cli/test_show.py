"""What is shown while a command works."""

from __future__ import annotations

import json

import pytest

from dfqonnx.cli.show import (
    JsonDisplay,
    LiveDisplay,
    PlainDisplay,
    display,
    time_left,
)


class Clock:
    """A clock that moves when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        (0, 10, 5.0, ""),
        (5, 10, 30.0, "0:30 left"),
        (1, 4, 30.0, "1:30 left"),
        (10, 10, 9.0, "0:00 left"),
    ],
)
def test_time_left_follows_the_pace_so_far(
    done: int, total: int, seconds: float, text: str
) -> None:
    assert time_left(done, total, seconds) == text


def test_without_a_terminal_a_line_comes_about_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    plain = PlainDisplay(clock=clock)
    plain.start("distill", 100)
    for _ in range(50):
        clock.now += 1
        plain.advance(2, loss=0.5)
    plain.finish()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "distill ...",
        "distill 20/100 20 %, loss 0.5, 0:40 left",
        "distill 40/100 40 %, loss 0.5, 0:30 left",
        "distill 60/100 60 %, loss 0.5, 0:20 left",
        "distill 80/100 80 %, loss 0.5, 0:10 left",
        "distill done in 50.0 s, loss 0.5",
    ]


def test_a_new_stage_closes_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainDisplay(clock=Clock())
    plain.start("images", 1)
    plain.start("distill", 1)
    plain.finish()
    assert [line.split()[0:2] for line in capsys.readouterr().err.splitlines()] == [
        ["images", "..."], ["images", "done"], ["distill", "..."], ["distill", "done"],
    ]  # fmt: skip


def test_quiet_shows_warnings_only(capsys: pytest.CaptureFixture[str]) -> None:
    with display(quiet=True, as_json=False) as progress:
        progress.start("images", 2)
        progress.advance()
        progress.note("a note")
        progress.warn("look out")
    assert capsys.readouterr() == ("", "Warning: look out\n")


def test_with_json_every_line_on_stderr_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    with display(quiet=False, as_json=True) as progress:
        assert isinstance(progress, JsonDisplay)
        progress.start("images", 2)
        progress.note("a note")
        progress.warn("look out")
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line) for line in err.splitlines()] == [{"warning": "look out"}]


def test_on_a_terminal_a_bar_is_drawn_and_notes_stand_above_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    live = LiveDisplay()
    with live.bars:
        live.start("images", 2)
        live.advance(2, loss=0.25)
        live.note("[made] 2")
        live.warn("look out")
        live.finish()
    err = capsys.readouterr().err
    assert "[made] 2" in err
    assert "Warning: look out" in err


def test_colors_stay_away_from_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    live = LiveDisplay()
    with live.bars:
        live.warn("look out")
    assert "\x1b" not in capsys.readouterr().err


def test_a_stage_that_starts_again_goes_on_with_its_new_total(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    plain = PlainDisplay(clock=clock)
    plain.start("distill", 1000)
    plain.advance(50)
    clock.now += 10
    plain.start("distill", 100, done=50)  # 50 steps are left
    clock.now += 10
    plain.advance(25)
    plain.finish()
    assert capsys.readouterr().err.splitlines() == [
        "distill ...",
        "distill 50/100 50 %",
        "distill 75/100 75 %, 0:10 left",
        "distill done in 20.0 s",
    ]


def test_a_stage_without_work_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    plain = PlainDisplay(clock=Clock())
    plain.start("distill", 0)
    plain.advance()
    plain.finish()
    assert capsys.readouterr().err == ""
