"""For test suites: hold a quantized file to its rules.

    from dfqonnx.testing import assert_quantized

    def test_the_shipped_model_is_small_and_true() -> None:
        assert_quantized(
            "net.w4a4.onnx", teacher="net.onnx", gates=["agreement>=0.95", "size<=0.2x"]
        )

Needs ONNX Runtime, not torch; takes a few seconds on a small network.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from dfqonnx.config.request import Gates, validate_request
from dfqonnx.core.input_format import Preprocessing
from dfqonnx.report.gate_verdicts import broken
from dfqonnx.report.report import Report
from dfqonnx.report.sections import Gate
from dfqonnx.workflows.validate import validate


class InconclusiveGate(UserWarning):
    """A rule that could not be decided; `strict=True` turns it into a failure."""


def assert_quantized(
    student: str | Path,
    *,
    teacher: str | Path,
    gates: Gates = (),
    eval_data: str | Path | None = None,
    preprocess: str | Path | Preprocessing | None = None,
    strict: bool = False,
    seed: int = 0,
) -> Report:
    """Assert that a quantized file keeps dfqonnx's promises and the given rules.

    Args:
        student: the quantized ONNX file.
        teacher: the float ONNX file.
        gates: rules such as "drop<=1.0"; see `dfqonnx.config.gates`.
        eval_data: labeled images (npz, folder or tar), for rules about accuracy.
        preprocess: how pixels become the input; None takes what the student says of itself.
        strict: whether a rule that cannot be decided fails, too; else it is a warning.
        seed: of the procedural images that stand in where there are no others.

    Returns:
        everything that was measured.

    Raises:
        AssertionError: a rule does not hold; every rule and what was found is listed.
        UsageError: a rule, a path or evaluation data that does not fit.
    """
    __tracebackhide__ = True
    spec = validate_request(
        teacher,
        student,
        preprocess=preprocess,
        eval_data=eval_data,
        gates=gates,
        strict_gates=strict,
        seed=seed,
    )
    report = validate(spec)
    failures = broken(report)
    if failures:
        raise AssertionError(_account(report, failures))
    for gate in report.gates:
        if gate.holds is None:
            warnings.warn(f"{gate.rule}: {gate.value}", InconclusiveGate, stacklevel=2)
    return report


def _account(report: Report, failures: tuple[Gate, ...]) -> str:
    """Return every gate on a line of its own, those that fail first."""
    count = f"{len(failures)} of {len(report.gates)} gates"
    head = f"{report.student.path} does not keep {count} (teacher {report.teacher.path}):"
    kept = [gate for gate in report.gates if gate not in failures]
    width = max(len(gate.rule) for gate in report.gates)
    lines = [
        f"  {_word(gate):<12}  {gate.rule:<{width}}  {gate.value}" for gate in (*failures, *kept)
    ]
    return "\n".join([head, *lines])


def _word(gate: Gate) -> str:
    return {True: "pass", False: "FAIL", None: "inconclusive"}[gate.holds]
