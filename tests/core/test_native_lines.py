"""What native code writes to stdout, as `os.write` does, is dropped line by line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dfqonnx.core.native_lines import without_native_lines


def test_only_lines_that_begin_so_are_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    sys.stdout.write("before\n")
    with without_native_lines(b"Solver::"):
        os.write(1, b"Solver::run();\n")
        os.write(1, b"kept, Solver:: inside\n")
    os.write(1, b"Solver:: after\n")
    assert capfd.readouterr().out == "before\nkept, Solver:: inside\nSolver:: after\n"


def test_stdout_is_there_again_behind_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="lost"):
        _fail_within()
    os.write(1, b"x\n")
    assert capfd.readouterr().out == "x\n"


def _fail_within() -> None:
    with without_native_lines(b"x"):
        os.write(1, b"x\n")
        raise ValueError("lost")


def test_a_closed_stdout_stays_closed() -> None:
    code = (
        "import os, sys; os.close(1)\n"
        "from dfqonnx.core.native_lines import without_native_lines\n"
        "with without_native_lines(b'x'): sys.stderr.write('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("done")
