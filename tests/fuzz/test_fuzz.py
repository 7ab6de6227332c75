"""Broken files: no crash, no traceback, no read outside the folder, no flood of memory, no hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")


def outcomes(folder: Path, first: int, last: int, *, root: Path) -> list[dict[str, Any]]:
    """Run the worker, which watches over itself; see `tests.fuzz.worker` for the rules."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.worker", str(folder), str(first), str(last)],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def assert_all_well(found: list[dict[str, Any]], count: int) -> None:
    assert len(found) == count
    faults = [f"seed {f['seed']} ({f['done']}): {f['fault']}" for f in found if "fault" in f]
    assert not faults, "\n".join(faults)
    codes = {f["inspect"] for f in found}
    assert codes == {0, 2, 3}  # some files are still good, and both kinds of refusal occur


def test_broken_files_are_refused_with_a_reason(tmp_path: Path, root: Path) -> None:
    assert_all_well(outcomes(tmp_path, 0, 60, root=root), 60)


@pytest.mark.slow
def test_two_thousand_broken_files_are_refused_with_a_reason(tmp_path: Path, root: Path) -> None:
    assert_all_well(outcomes(tmp_path, 0, 2000, root=root), 2000)
