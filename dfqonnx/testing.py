"""For test suites: assert that a quantized file meets gates.

    from dfqonnx.testing import assert_quantized

    def test_the_shipped_model_is_small_and_true() -> None:
        assert_quantized(
            "net.w4a4.onnx", teacher="net.onnx", gates=["agreement>=0.95", "size<=0.2x"]
        )

It needs ONNX Runtime but not torch, and takes a few seconds for a small network.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from dfqonnx.config.measuring import read_measuring
from dfqonnx.config.request import Gates, validate_request
from dfqonnx.core.input_format import Preprocessing
from dfqonnx.report.report import Report
from dfqonnx.report.text import describe_outcome
from dfqonnx.workflows.validate import validate


class InconclusiveGate(UserWarning):
    """A gate that could not be decided; `strict=True` turns it into a failure."""


class AccuracyNotJudged(UserWarning):
    """No gate is about accuracy, so that only the file was checked."""


class WeakEvidence(UserWarning):
    """Something because of which numbers cannot be trusted, such as a float model at chance."""


def assert_quantized(
    student: str | Path,
    *,
    teacher: str | Path,
    gates: Gates = (),
    eval_data: str | Path | None = None,
    preprocess: str | Path | Preprocessing | None = None,
    strict: bool = False,
    seed: int = 0,
    metric: str | None = None,
    head: str | None = None,
) -> Report:
    """Assert that a quantized file passes the built-in checks and the given gates.

    What does not fail but deserves attention is a warning: `InconclusiveGate`, `WeakEvidence`, and
    `AccuracyNotJudged` where no gate is about accuracy.

    Args:
        student: the quantized ONNX file.
        teacher: the float ONNX file.
        gates: rules such as "drop<=1.0"; see `dfqonnx.config.gates`.
        eval_data: inputs with labels, for rules about accuracy; see `data/task_data.py`.
        preprocess: how pixels become the input; None takes the student's own metadata.
        strict: as `--strict`: an inconclusive gate fails as well, instead of a warning; so does a
            larger or slower file; and where no gate is about accuracy a usual one is added.
        seed: of the procedural images that are used where there are no others.
        metric: a measure of your own, "FILE.py:FUNCTION", whose names gates may hold.
        head: how a detector's outputs become boxes; None finds one by shape.

    Raises:
        AssertionError: a gate fails; the message lists every gate with what was found.
        UsageError: a gate, a path or the evaluation data does not fit.
    """
    __tracebackhide__ = True
    spec = validate_request(
        teacher, student, preprocess=preprocess, eval_data=eval_data, gates=gates,
        strict=strict, seed=seed, measuring=read_measuring(metric, head, None, None),
    )  # fmt: skip
    report = validate(spec)
    if report.exit_code:
        raise AssertionError(_describe_failures(report))
    for gate in report.gates:
        if gate.holds is None:
            warnings.warn(f"{gate.rule}: {gate.value}", InconclusiveGate, stacklevel=2)
    if not any(gate.topic == "accuracy" for gate in report.gates):
        warnings.warn(str(report.accuracy), AccuracyNotJudged, stacklevel=2)
    for weakness in report.evidence:
        if weakness.effect != "warn":
            warnings.warn(str(weakness), WeakEvidence, stacklevel=2)
    return report


def _describe_failures(report: Report) -> str:
    """Return every gate on a line of its own, those that fail first."""
    failed = report.failed_gates
    lines = [
        f"{report.student.path} fails {len(failed)} of {len(report.gates)} gates"
        f" (teacher {report.teacher.path}):"
    ]
    width = max(len(gate.rule) for gate in report.gates)
    others = (gate for gate in report.gates if gate not in failed)
    lines += [
        f"  {describe_outcome(g)[0]:<12}  {g.rule:<{width}}  {g.value}" for g in (*failed, *others)
    ]
    lines += [f"  {warning}" for warning in report.evidence]
    return "\n".join(lines)
