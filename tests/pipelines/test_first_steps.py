"""What people type first is answered with a result, or with the way on."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest


@pytest.mark.slow  # fifty processes
def test_no_first_step_is_a_dead_end(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(root / "pipelines")
    first_steps = importlib.import_module("first_steps")
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(root))
    first_steps.make_files(tmp_path)
    assert len(first_steps.STEPS) >= 40
    wrong = [
        f"{step.typed}: {code}, {shown}"
        for step, code, shown in first_steps.run_steps(tmp_path, first_steps.STEPS)
        if code != step.code or step.answer not in shown
    ]
    assert not wrong, "\n".join(wrong)
