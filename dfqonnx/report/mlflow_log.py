"""A sweep in MLflow: one run a task, in an experiment of the sweep's name.

A run has the axes as parameters, the figures and measures as metrics, status, hashes and place as
tags, and the report of a task that is on this machine as an artifact.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from dfqonnx.core.location import describe_location, is_remote
from dfqonnx.errors import EnvironmentProblem
from dfqonnx.report.sweep_result import SweepResult, SweepRow

NO_MLFLOW = "--mlflow needs mlflow: pip install mlflow-skinny"
_UNFIT = re.compile(r"[^\w\-. :/]")  # in the name of a metric
_LONGEST = 500  # letters of a parameter or a tag that every store takes


def check_mlflow() -> None:
    """Refuse to go on without MLflow.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise EnvironmentProblem(NO_MLFLOW)


def log_to_mlflow(result: SweepResult, uri: str) -> None:
    """Write the tasks of a sweep to the tracking store at `uri`.

    Raises:
        EnvironmentProblem: MLflow is missing, or the store cannot be reached.
    """
    check_mlflow()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import mlflow
    except ImportError as error:  # a part that it needs is missing
        raise EnvironmentProblem(f"--mlflow: mlflow cannot be loaded ({error})") from None
    try:
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(f"dfqonnx-sweep-{result.name}")
        for row in result.rows:
            with mlflow.start_run(run_name=row.task):
                mlflow.log_params({name: value[:_LONGEST] for name, value in _params(row).items()})
                mlflow.log_metrics(_metrics(row))
                mlflow.set_tags({name: value[:_LONGEST] for name, value in _tags(row).items()})
                report = Path(row.folder) / "report.json"
                if not is_remote(row.folder) and report.is_file():
                    mlflow.log_artifact(str(report))
    except (mlflow.exceptions.MlflowException, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise EnvironmentProblem(
            f"--mlflow {describe_location(uri)}: {reason}; the sweep itself is complete"
        ) from None


def _params(row: SweepRow) -> dict[str, str]:
    values = {"model": row.model, "bits": row.bits, "target": row.target, "recipe": row.recipe}
    return {**values, "seed": str(row.seed), "model_location": row.model_location}


def _metrics(row: SweepRow) -> dict[str, float]:
    found = dict(row.figures)
    for each in row.qualities:
        ends = {"": each.value, "-low": each.low, "-high": each.high}
        found |= {f"{each.name}{end}": v for end, v in ends.items() if v is not None}
    return {_UNFIT.sub("_", name): float(value) for name, value in found.items()}


def _tags(row: SweepRow) -> dict[str, str]:
    return {
        "status": row.status,
        "reason": row.reason,
        "verdict": row.verdict,
        "folder": row.folder,
        "attempts": str(row.attempts),
        "model_sha256": row.model_sha256,
        "student_sha256": row.student_sha256,
        "dfqonnx": row.version,
    }
