"""The comparison with ONNX Runtime's quantizer refuses what it cannot do before any run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("--bits", "w9a4", "weight width 9 is not supported"),
        ("--budget", "soon", "'soon'"),
        ("--eval-data", "none.npz", "none.npz: no such file"),
    ],
)
def test_what_is_wrong_is_said_at_once(
    option: str, value: str, why: str, root: Path, tmp_path: Path
) -> None:
    model, out = root / "models" / "resnet20.onnx", tmp_path / "out"
    words = [sys.executable, "pipelines/benchmarks/side_by_side.py", "--model", model, "--out", out]
    words += ["--preprocess", "cifar10", "--eval-data", model, option, value]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert why in done.stderr
    assert not out.exists()
