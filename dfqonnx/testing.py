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

from dfqonnx.config.request import Gates, validate_request
from dfqonnx.core.input_format import Preprocessing
from dfqonnx.report.report import Report
from dfqonnx.workflows.validate import validate


class InconclusiveGate(UserWarning):
    """A gate that could not be decided; `strict=True` turns it into a failure."""


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
    """Assert that a quantized file passes the built-in checks and the given gates.

    Args:
        student: the quantized ONNX file.
        teacher: the float ONNX file.
        gates: rules such as "drop<=1.0"; see `dfqonnx.config.gates`.
        eval_data: labeled images (npz, folder or tar), for rules about accuracy.
        preprocess: how pixels become the input; None takes the student's own metadata.
        strict: whether an inconclusive gate fails as well; otherwise it is a warning.
        seed: of the procedural images that are used where there are no others.

    Raises:
        AssertionError: a gate fails; the message lists every gate with what was found.
        UsageError: a gate, a path or the evaluation data does not fit.
    """
    __tracebackhide__ = True
    spec = validate_request(
        teacher, student, preprocess=preprocess, eval_data=eval_data, gates=gates,
        strict_gates=strict, seed=seed,
    )  # fmt: skip
    report = validate(spec)
    if report.failed_gates:
        raise AssertionError(_describe_failures(report))
    for gate in report.gates:
        if gate.holds is None:
            warnings.warn(f"{gate.rule}: {gate.value}", InconclusiveGate, stacklevel=2)
    return report


def _describe_failures(report: Report) -> str:
    """Return every gate on a line of its own, those that fail first."""
    failed = report.failed_gates
    lines = [
        f"{report.student.path} fails {len(failed)} of {len(report.gates)} gates"
        f" (teacher {report.teacher.path}):"
    ]
    width = max(len(gate.rule) for gate in report.gates)
    words = {True: "pass", False: "FAIL", None: "inconclusive"}
    others = (gate for gate in report.gates if gate not in failed)
    lines += [f"  {words[g.holds]:<12}  {g.rule:<{width}}  {g.value}" for g in (*failed, *others)]
    return "\n".join(lines)
