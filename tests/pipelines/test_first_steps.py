"""What people type first is answered with a result, or with the way on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from first_steps import STEPS, make_files, run_steps


@pytest.mark.slow  # fifty processes
def test_no_first_step_is_a_dead_end(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(root))
    make_files(tmp_path)
    assert len(STEPS) >= 40
    wrong = [
        f"{step.typed}: {code}, {shown}"
        for step, code, shown in run_steps(tmp_path, STEPS)
        if code != step.code or step.answer not in shown
    ]
    assert not wrong, "\n".join(wrong)
