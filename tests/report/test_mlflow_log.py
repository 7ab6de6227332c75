"""A sweep in MLflow: one run a task, readable by MLflow's own client."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from dfqonnx.errors import EnvironmentProblem
from dfqonnx.report.mlflow_log import check_mlflow

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from dfqonnx.errors import EnvironmentProblem
from dfqonnx.report.mlflow_log import log_to_mlflow
from tests.report.test_sweep_result import result, row
log_to_mlflow(result(row(0), row(1, status="failed", reason="why")), sys.argv[1])
import mlflow
runs = mlflow.search_runs(experiment_names=["dfqonnx-sweep-many"], output_format="list")
found = {run.info.run_name: run.data for run in runs}
assert set(found) == {"net-s0", "net-s1"}, found
first, second = found["net-s0"], found["net-s1"]
assert first.params["bits"] == "w4a8" and first.params["seed"] == "0", first.params
assert first.metrics["drop"] == 1.0 and first.metrics["drop-high"] == 1.5, first.metrics
assert first.metrics["bytes"] == 1000.0, first.metrics
assert second.tags["status"] == "failed" and second.tags["reason"] == "why", second.tags
try:
    log_to_mlflow(result(row(0)), "http://127.0.0.1:9")
except EnvironmentProblem as problem:
    assert "the sweep itself is complete" in problem.message
else:
    raise AssertionError("no server is there")
"""


@pytest.mark.slow
def test_every_task_is_a_run_that_mlflow_finds(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="not installed: pip install mlflow-skinny")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, f"file://{tmp_path}/runs"],
        cwd=ROOT,
        env={
            "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "MLFLOW_ALLOW_FILE_STORE": "true",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_without_mlflow_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="pip install mlflow-skinny"):
        check_mlflow()
