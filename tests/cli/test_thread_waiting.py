"""Threads that wait go to sleep soon, where the user does not say otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dfqonnx.cli.thread_waiting import SPINS, shorten_thread_waiting


def test_waiting_is_shortened_by_default() -> None:
    environment: dict[str, str] = {}
    shorten_thread_waiting(environment)
    assert environment == {"GOMP_SPINCOUNT": SPINS}


@pytest.mark.parametrize("chosen", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_what_a_user_chose_stays(chosen: dict[str, str]) -> None:
    environment = dict(chosen)
    shorten_thread_waiting(environment)
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
