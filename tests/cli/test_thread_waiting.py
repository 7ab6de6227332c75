"""Threads that wait go to sleep soon, where the user does not say otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dfqonnx.cli.thread_waiting import (
    SPINS,
    SPINS_WHERE_BUSY,
    ProcessorTimes,
    lacks_cores,
    shorten_thread_waiting,
)


def test_waiting_is_shortened_by_default() -> None:
    environment: dict[str, str] = {}
    shorten_thread_waiting(None, environment)
    assert environment == {"GOMP_SPINCOUNT": SPINS}


@pytest.mark.parametrize("chosen", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_what_a_user_chose_stays(chosen: dict[str, str]) -> None:
    environment = dict(chosen)
    shorten_thread_waiting(None, environment)
    assert environment == chosen


def test_the_command_line_says_it_before_torch_is_loaded() -> None:
    code = (
        "import os, sys\n"
        "from dfqonnx.cli import app\n"
        "try:\n    app.main(['--version'])\n"
        "except SystemExit:\n    print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    bare = {k: v for k, v in os.environ.items() if k not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}}
    done = subprocess.run(
        [sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-2:] == [SPINS, "False"]


@pytest.mark.parametrize(
    ("taken", "cores", "threads", "lacks"),
    [
        (0.1, 2, 2, False),
        (1.0, 2, 2, True),
        (1.0, 2, 1, False),
        (1.0, 8, 4, False),  # two threads a core, four of them in use
        (60.0, 64, 4, False),
        (62.0, 64, 4, True),
        (0.4, 1, 1, False),
        (1.0, 1, 1, True),
    ],
)
def test_cores_lack_where_others_leave_fewer_than_there_are_threads(
    taken: float, cores: int, threads: int, lacks: bool
) -> None:
    assert lacks_cores(taken, cores=cores, threads=threads) is lacks


def test_what_others_take_is_all_but_what_this_process_takes() -> None:
    earlier = ProcessorTimes(clock=10.0, busy=100.0, own=1.0)
    later = ProcessorTimes(clock=12.0, busy=103.5, own=2.5)
    assert later.taken_by_others_since(earlier) == 1.0  # (3.5 - 1.5) s in 2 s


def test_threads_that_lack_cores_go_to_sleep_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = ProcessorTimes.read()
    earlier = ProcessorTimes(now.clock - 10.0, now.busy - 1000.0, now.own)  # a hundred cores
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 2)
    environment: dict[str, str] = {}
    shorten_thread_waiting(earlier, environment)
    assert environment == {"GOMP_SPINCOUNT": SPINS_WHERE_BUSY}


def test_times_grow_with_work() -> None:
    before = ProcessorTimes.read()
    sum(i * i for i in range(1_000_000))
    after = ProcessorTimes.read()
    assert after.clock > before.clock
    assert after.own > before.own
