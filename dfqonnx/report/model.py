"""`report.json`: one versioned schema, the single truth about a run or a validation.

Unknown values are None (null); figures that the runtime gives as NaN or infinity are None as well,
because JSON has neither.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA = "dfqonnx.report/1"
Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True)
class Interval:
    """A measured value and its 95 % bounds.

    Attributes:
        value: the point estimate.
        low: lower bound.
        high: upper bound.
        n: how many images it rests on.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class ModelFacts:
    """One of the two files.

    Attributes:
        path: where it lies; of the student, relative to the output folder.
        sha256: of the file's bytes.
        bytes: size, external data counted in.
        top1: labelled accuracy in percent, with Wilson bounds.
    """

    path: str
    sha256: str | None = None
    bytes: int | None = None
    top1: Interval | None = None


@dataclass(frozen=True)
class Widths:
    """Bits, and by which convention (README, section Conventions).

    Attributes:
        weights: of every Conv, Gemm and MatMul.
        activations: of their inputs.
        ends: weight bits of the first and last layer; None when they are like the others.
        stream: elementwise operands, network input, classifier input.
    """

    weights: int
    activations: int
    ends: int | None = None
    stream: int = 8


@dataclass(frozen=True)
class Agreement:
    """Share of images on which teacher and student choose the same class, 0..1.

    Attributes:
        synthetic: on synthetic images held out from training.
        eval: on the evaluation images.
        kl: mean Kullback-Leibler divergence of the student's classes from the teacher's, in nats.
        sqnr_db: signal to quantization noise of the outputs, in decibels.
    """

    synthetic: Interval | None = None
    eval: Interval | None = None
    kl: float | None = None
    sqnr_db: float | None = None


@dataclass(frozen=True)
class Parity:
    """Is the file what was trained, and does the runtime compute what the file says?

    Attributes:
        off_vs_torch_levels: largest difference of the file (optimisation off) from the torch
            student, in quantization levels.
        on_vs_off_levels: largest difference of the deployed session (all optimisations) from the
            one with optimisation off, in quantization levels.
        on_vs_off_flips: share of codes that differ between these two.
        top1_same: share of images on which torch student and deployed file choose the same class.
    """

    off_vs_torch_levels: float | None = None
    on_vs_off_levels: float | None = None
    on_vs_off_flips: float | None = None
    top1_same: float | None = None


@dataclass(frozen=True)
class FloatNode:
    """A node that the runtime computes in float, and why."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True)
class Audit:
    """What ONNX Runtime really fused.

    Attributes:
        integer_nodes: how many nodes of the optimised graph run on integers, by operator.
        float_nodes: those that do not.
        provider: execution provider asked.
    """

    integer_nodes: Mapping[str, int] = field(default_factory=dict)
    float_nodes: tuple[FloatNode, ...] = ()
    provider: str = "CPUExecutionProvider"


@dataclass(frozen=True)
class Latency:
    """Interleaved in one process, medians in milliseconds."""

    teacher_ms: float
    student_ms: float
    speedup: float
    batch: int
    threads: int


@dataclass(frozen=True)
class Gate:
    """A rule that must hold.

    Attributes:
        rule: what it says, such as `no Conv or Gemm in float`.
        value: what was found, in words.
        holds: None where the data does not settle it.
    """

    rule: str
    value: str
    holds: bool | None


@dataclass(frozen=True)
class Images:
    """Where the training images came from.

    Attributes:
        source: name of the source.
        count: how many.
        batchnorm: state of the teacher's statistics: present, partly, absent.
        guided_by: what steered them, in words.
    """

    source: str
    count: int
    batchnorm: str
    guided_by: str = ""


@dataclass(frozen=True)
class Report:
    """Everything known about a run (or a validation, where training's parts are None).

    Attributes:
        verdict: `fail` if a gate fails, else `inconclusive` if one is not settled, else `pass`.
        teacher: the float file.
        student: the quantized file.
        bits: None where the student does not say.
        drop_points: teacher's top-1 minus the student's, paired, in points.
        agreement: teacher against student.
        parity: three ways.
        audit: integer and float nodes; None when the runtime could not be asked.
        latency: None when not measured.
        seconds: stage -> wall-clock seconds, `total` among them.
        peak_rss_mb: largest resident memory of the process, in MiB.
        recipe: name of the recipe.
        seed: of the run.
        preprocess: the input specification, as in the file's metadata.
        preprocess_guessed: whether dfqonnx chose it.
        images: what the student was trained on.
        gates: every rule that was checked.
        warnings: what the user should know.
        environment: versions, processor, threads.
        files: everything that was written, relative to the output folder.
    """

    verdict: Verdict
    teacher: ModelFacts
    student: ModelFacts
    bits: Widths | None = None
    drop_points: Interval | None = None
    agreement: Agreement = field(default_factory=Agreement)
    parity: Parity = field(default_factory=Parity)
    audit: Audit | None = None
    latency: Latency | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_rss_mb: float | None = None
    recipe: str | None = None
    seed: int | None = None
    preprocess: Mapping[str, Any] | None = None
    preprocess_guessed: bool | None = None
    images: Images | None = None
    gates: tuple[Gate, ...] = ()
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 unless a gate failed; an open question is not a failure."""
        return 1 if self.verdict == "fail" else 0

    @property
    def size_ratio(self) -> float | None:
        """Student bytes over teacher bytes."""
        if not self.teacher.bytes or self.student.bytes is None:
            return None
        return self.student.bytes / self.teacher.bytes

    def to_json(self) -> str:
        """Return the text of `report.json`."""
        content = {"schema": SCHEMA, **dataclasses.asdict(self), "size_ratio": self.size_ratio}
        return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def settle(gates: tuple[Gate, ...]) -> Verdict:
    """Return the verdict that `gates` add up to."""
    if any(gate.holds is False for gate in gates):
        return "fail"
    return "inconclusive" if any(gate.holds is None for gate in gates) else "pass"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
