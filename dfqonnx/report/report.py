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
from typing import Any, Self

from dfqonnx.core.layer_analysis import GraphNode, LayerNoise
from dfqonnx.evaluation.drop_estimate.estimate import Estimate
from dfqonnx.evaluation.statistics import Drop
from dfqonnx.graph.model import SkippedRewrite
from dfqonnx.report.sections import (
    AgreementFacts,
    ClassesSeen,
    Disagreement,
    Gate,
    ImageFacts,
    ModelFacts,
    ParityFacts,
    Training,
    Verdict,
    Widths,
)
from dfqonnx.runtime.kernel_audit import Audit
from dfqonnx.runtime.latency import Latency

SCHEMA = "dfqonnx.report/1"
_NUMBERS = re.compile(r"\[\s+-?\d[-+.,\deE\s]*\]")  # a list of numbers goes on one line


@dataclass(frozen=True)
class Report:
    """Everything known about a run (or a validation, where training's parts are None).

    Attributes:
        verdict: `fail` if a gate fails, else `inconclusive` if one is not settled, else `pass`.
        teacher: the float file.
        student: the quantized file.
        bits: None where the student does not say.
        drop: teacher's top-1 minus the student's, paired, in points; `drop_points` in the JSON.
        estimate: the drop as told without labels; None where nobody estimated.
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
        environment: versions, processor, cores; `device`: the GPU that trained, or null.
        files: everything that was written, relative to the output folder.
        command: that does the same again.
        training: None where nothing was trained.
        disagreement: where the two part, on evaluation images, else on synthetic ones.
        class_names: in label order; empty where nobody says.
        seen: held-out synthetic images as both see them.
        portrait: noise per layer, values on their grids.
        graph: the normalized graph, in order.
        skipped_rewrites: what normalization could not simplify, with reasons.
    """

    verdict: Verdict
    teacher: ModelFacts
    student: ModelFacts
    bits: Widths | None = None
    drop: Drop | None = None
    estimate: Estimate | None = None
    agreement: AgreementFacts = field(default_factory=AgreementFacts)
    parity: ParityFacts = field(default_factory=ParityFacts)
    audit: Audit | None = None
    latency: Latency | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_rss_mb: float | None = None
    recipe: str | None = None
    seed: int | None = None
    preprocess: Mapping[str, Any] | None = None
    preprocess_guessed: bool | None = None
    images: ImageFacts | None = None
    gates: tuple[Gate, ...] = ()
    strict_gates: bool = False
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    command: str | None = None
    training: Training | None = None
    disagreement: Disagreement | None = None
    class_names: tuple[str, ...] = ()
    seen: ClassesSeen | None = None
    portrait: LayerNoise | None = None
    graph: tuple[GraphNode, ...] = ()
    skipped_rewrites: tuple[SkippedRewrite, ...] = ()

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


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
