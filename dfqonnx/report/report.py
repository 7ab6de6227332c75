"""`report.json`: one versioned schema for everything known about a run or a validation.

Unknown values are None (null), and so are NaN and infinity, because JSON has neither.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dfqonnx.core.bit_choice import BitChoice
from dfqonnx.core.layer_analysis import GraphNode, LayerNoise
from dfqonnx.evaluation.agreement_estimate.estimate_agreement import AgreementEstimate
from dfqonnx.evaluation.drop_estimate.estimate import Estimate
from dfqonnx.evaluation.measures.task_measure import TaskMeasure
from dfqonnx.evaluation.statistics import Drop
from dfqonnx.evaluation.target_proof import TargetProof
from dfqonnx.graph.model import SkippedRewrite
from dfqonnx.report.sections import (
    AgreementFacts,
    BitFacts,
    Disagreement,
    HeldOutClasses,
    ImageFacts,
    ModelFacts,
    ParityFacts,
    TrainingFacts,
)
from dfqonnx.report.verdict import (
    AccuracyStatement,
    AccuracyStatus,
    EvidenceWarning,
    FileChecks,
    Gate,
    Verdict,
    combine,
    state_accuracy,
    state_file_checks,
)
from dfqonnx.runtime.kernel_audit import Audit
from dfqonnx.runtime.latency import Latency

SCHEMA = "dfqonnx.report/3"
_NUMBERS = re.compile(r"\[\s+-?\d[-+.,\deE\s]*\]")  # a list of numbers goes on one line


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """Everything known about a run, or about a validation, which trains nothing.

    What was not measured, or does not apply, is None or empty.

    Attributes:
        drop: the teacher's top-1 minus the student's, paired, in points; known only with labels.
        estimated_drop: the drop, estimated without labels.
        estimated_agreement: the share of real inputs with the teacher's class, estimated, 0..1.
        parity: trained student, file as written, and file as deployed.
        audit: integer and float nodes; None when the runtime could not be asked.
        proof: what the runtime of the file's target does with it, or that only rules are known.
        seconds: stage -> wall-clock seconds, `total` among them.
        peak_memory_mib: largest resident memory of the process.
        preprocess: the input format, as in the file's metadata.
        preprocess_guessed: whether dfqonnx guessed it.
        images: what the student was trained on.
        strict: whether every verdict but `pass` ends with exit code 1.
        evidence: what weakens the numbers, and what is worth knowing before the file is used.
        environment: versions, processor, cores; `device`: the GPU that trained, or null.
        files: everything that was written, relative to the output folder.
        command: the command line that repeats the run.
        disagreement: where the classes differ, on evaluation images, else on synthetic ones.
        class_names: in label order.
        held_out_classes: the classes of the held-out synthetic images.
        measures: numbers that a user of the task knows, on every set of inputs.
        notes: how the outputs were read for them.
        layer_noise: quantization noise per layer, and histograms over the codes.
        graph: the nodes of the normalized graph, in order.
        skipped_rewrites: what normalization could not simplify, with the reasons.
        bit_choice: the widths of every layer, where they were looked for, with the reasons.
    """

    teacher: ModelFacts
    student: ModelFacts
    bits: BitFacts | None = None
    drop: Drop | None = None
    estimated_drop: Estimate | None = None
    estimated_agreement: AgreementEstimate | None = None
    agreement: AgreementFacts = field(default_factory=AgreementFacts)
    parity: ParityFacts = field(default_factory=ParityFacts)
    audit: Audit | None = None
    latency: Latency | None = None
    proof: TargetProof | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mib: float | None = None
    recipe: str | None = None
    seed: int | None = None
    preprocess: Mapping[str, Any] | None = None
    preprocess_guessed: bool | None = None
    images: ImageFacts | None = None
    gates: tuple[Gate, ...] = ()
    strict: bool = False
    evidence: tuple[EvidenceWarning, ...] = ()
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    command: str | None = None
    training: TrainingFacts | None = None
    disagreement: Disagreement | None = None
    class_names: tuple[str, ...] = ()
    held_out_classes: HeldOutClasses | None = None
    measures: tuple[TaskMeasure, ...] = ()
    notes: tuple[str, ...] = ()
    layer_noise: LayerNoise | None = None
    graph: tuple[GraphNode, ...] = ()
    skipped_rewrites: tuple[SkippedRewrite, ...] = ()
    bit_choice: BitChoice | None = None

    def __repr__(self) -> str:
        """Return file and verdict in a line; `to_json` has everything."""
        return f"<Report {self.student.path!r}: {self.verdict}>"

    @property
    def file_checks(self) -> FileChecks:
        """What holds of the file, whatever it is used for."""
        return state_file_checks(self.gates)

    @property
    def accuracy(self) -> AccuracyStatement:
        """Whether rules judged the accuracy, and how."""
        return state_accuracy(self.gates, self.evidence, unjudged=self._unjudged_accuracy())

    def _unjudged_accuracy(self) -> AccuracyStatus:
        """Return what is known of the accuracy where no rule judges it."""
        if self.drop is not None or any(m.truth == "labels" for m in self.measures):
            return "measured"
        estimates = (self.estimated_drop, self.estimated_agreement)
        is_told = any(found is not None and found.value is not None for found in estimates)
        return "estimated" if is_told else "not judged"

    @property
    def verdict(self) -> Verdict:
        """The worst of both statements: `pass` only where rules judged the accuracy as well."""
        return combine(self.file_checks, self.accuracy)

    @property
    def failed_gates(self) -> tuple[Gate, ...]:
        """The gates that make the command end with exit code 1."""
        return tuple(
            gate
            for gate in self.gates
            if (gate.holds is False and gate.is_required) or (gate.holds is None and self.strict)
        )

    @property
    def exit_code(self) -> int:
        """1 where a gate failed, and with `--strict` also for every other verdict but `pass`."""
        is_short = self.strict and self.verdict != "pass"
        return 1 if self.failed_gates or is_short else 0

    @property
    def size_ratio(self) -> float | None:
        """Student bytes over teacher bytes."""
        if not self.teacher.bytes or self.student.bytes is None:
            return None
        return self.student.bytes / self.teacher.bytes

    def figures(self) -> dict[str, float]:
        """Return the measured numbers by name; top-1 and drop in percent, agreement 0..1."""
        audit, agreement = self.audit, self.agreement.best_known
        known = {
            "top-1": None if self.student.top1 is None else self.student.top1.value,
            "drop": None if self.drop is None else self.drop.points.value,
            "agreement": None if agreement is None else agreement.value,
            "agreement-images": None if agreement is None else agreement.n,
            "kl": self.agreement.kl,
            "bytes": self.student.bytes,
            "size": self.size_ratio,
            "speedup": None if self.latency is None else self.latency.speedup,
            "integer-nodes": None if audit is None else sum(audit.integer_nodes.values()),
            "float-nodes": None if audit is None else len(audit.float_nodes),
        }
        return {name: float(value) for name, value in known.items() if value is not None}

    def to_json(self) -> str:
        """Return the text of `report.json`."""
        content = {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "file_checks": dataclasses.asdict(self.file_checks),
            "accuracy": dataclasses.asdict(self.accuracy),
            **dataclasses.asdict(self),
        }
        content["size_ratio"] = self.size_ratio
        content["measures"] = [
            {**dataclasses.asdict(each), "drop": each.drop} for each in self.measures
        ]
        text = json.dumps(_finite(content), indent=2, allow_nan=False)
        return _NUMBERS.sub(lambda found: " ".join(found[0].split()), text) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
