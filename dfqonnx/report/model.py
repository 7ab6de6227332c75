"""`report.json`: one versioned schema, the single truth about a run or a validation.

Unknown values are None (null); figures that the runtime gives as NaN or infinity are None as well,
because JSON has neither.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from dfqonnx.report.sections import Disagreement, Seen, Training
from dfqonnx.spec.portrait import Place, Portrait
from dfqonnx.spec.quant import QuantSpec
from dfqonnx.validate import parity
from dfqonnx.validate.accuracy import Bounded, Drop
from dfqonnx.validate.audit import Audit
from dfqonnx.validate.latency import Latency

SCHEMA = "dfqonnx.report/1"
_NUMBERS = re.compile(r"\[\s+-?\d[-+.,\deE\s]*\]")  # a list of numbers goes on one line
Verdict = Literal["pass", "fail", "inconclusive"]


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
    top1: Bounded | None = None


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

    synthetic: Bounded | None = None
    eval: Bounded | None = None
    kl: float | None = None
    sqnr_db: float | None = None


@dataclass(frozen=True)
class Parity:
    """Is the file what was trained, and does the runtime compute what the file says?

    Differences are counted where they are born (every quantizer on equal inputs), in levels.

    Attributes:
        off_vs_torch_levels: largest, of the file as written from the torch student.
        off_vs_torch_flips: share of the codes that differ between these two.
        on_vs_off_levels: largest, of the deployed session from the file as written.
        on_vs_off_flips: share of the codes that differ between these two.
        top1_same: share of images on which deployed file and torch student (without one: the file
            as written) choose the same class.
        images: how many were compared.
        eval_same: share of the evaluation images on which deployed file and torch student choose
            the same class.
        eval_images: how many those are.
    """

    off_vs_torch_levels: int | None = None
    off_vs_torch_flips: float | None = None
    on_vs_off_levels: int | None = None
    on_vs_off_flips: float | None = None
    top1_same: float | None = None
    images: int | None = None
    eval_same: float | None = None
    eval_images: int | None = None

    @classmethod
    def of(cls, found: parity.Parity) -> Self:
        """Sum up what validation found."""
        torch = found.off_vs_torch
        same = found.top1_on_vs_torch
        return cls(
            off_vs_torch_levels=None if torch is None else torch.largest,
            off_vs_torch_flips=None if torch is None else torch.fraction,
            on_vs_off_levels=found.on_vs_off.largest,
            on_vs_off_flips=found.on_vs_off.fraction,
            top1_same=found.top1_on_vs_off if same is None else same,
            images=found.images,
        )


@dataclass(frozen=True)
class Measured:
    """What one of the user's rules was held against, in the rule's own unit.

    Attributes:
        value: estimate.
        low: of its interval; the estimate itself where it is exact.
        high: of its interval.
        n: images, turns, or 1 where it is exact.
        needed: how many images would decide an open rule; None where it is decided, or where no
            number of them would.
    """

    value: float
    low: float
    high: float
    n: int
    needed: int | None = None


@dataclass(frozen=True)
class Gate:
    """A rule that must hold: a promise of ours, or one that the user asked for.

    Attributes:
        rule: what it says, such as `no Conv or Gemm in float`, or `drop<=1.0`.
        value: what was found, in words.
        holds: None where the data does not settle it.
        asked: whether the user set it.
        measured: the figures; None for promises, and where nothing was measured.
    """

    rule: str
    value: str
    holds: bool | None
    asked: bool = False
    measured: Measured | None = None


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
        drop: teacher's top-1 minus the student's, paired, in points; `drop_points` in the JSON.
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
        strict_gates: whether an open gate ends with exit code 1 as well.
        warnings: what the user should know.
        environment: versions, processor, threads.
        files: everything that was written, relative to the output folder.
        command: that does the same again.
        training: None where nothing was trained.
        disagreement: where the two part, on evaluation images, else on synthetic ones.
        seen: held-out synthetic images as both see them.
        portrait: noise per layer, values on their grids.
        graph: the normalised graph, in order.
    """

    verdict: Verdict
    teacher: ModelFacts
    student: ModelFacts
    bits: Widths | None = None
    drop: Drop | None = None
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
    strict_gates: bool = False
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    command: str | None = None
    training: Training | None = None
    disagreement: Disagreement | None = None
    seen: Seen | None = None
    portrait: Portrait | None = None
    graph: tuple[Place, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 unless a gate failed; an open one fails only with `--strict-gates`."""
        return 1 if self.verdict == "fail" or (self.strict_gates and self.is_open) else 0

    @property
    def is_open(self) -> bool:
        """Whether some gate is not decided."""
        return any(gate.holds is None for gate in self.gates)

    @property
    def size_ratio(self) -> float | None:
        """Student bytes over teacher bytes."""
        if not self.teacher.bytes or self.student.bytes is None:
            return None
        return self.student.bytes / self.teacher.bytes

    def compared(self, same: float | None, *, images: int) -> Self:
        """Return the report with the share of evaluation images classed alike in torch."""
        if same is None:
            return self
        parity = dataclasses.replace(self.parity, eval_same=same, eval_images=images)
        return dataclasses.replace(self, parity=parity)

    def to_json(self) -> str:
        """Return the text of `report.json`."""
        content = {"schema": SCHEMA, **dataclasses.asdict(self), "size_ratio": self.size_ratio}
        drop = content.pop("drop")
        content["drop_points"] = drop and {**drop.pop("points"), **drop}
        text = json.dumps(_finite(content), indent=2, allow_nan=False)
        return _NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n"


def widths(quant: QuantSpec) -> Widths:
    """Return the part of `quant` that a report tells."""
    return Widths(quant.bits.weights, quant.bits.activations, quant.ends, quant.stream)


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
