"""From what the rooms found to one report: the same for `run` and `validate`.

A gate is a promise of ours that every run is held to; rules about accuracy are the user's to set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from dfqonnx.evaluation.evaluate import Evaluation
from dfqonnx.evaluation.file_facts import FileFacts
from dfqonnx.evaluation.outputs import Comparison
from dfqonnx.evaluation.parity import CodeMismatches
from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.report import Report
from dfqonnx.report.sections import (
    AgreementFacts,
    Gate,
    ModelFacts,
    ParityFacts,
    disagreement,
    overall_verdict,
)
from dfqonnx.runtime.fallback_reasons import FLOAT_WEIGHT

FLIPS, STEP = 1e-4, 1  # share of codes that may differ, and levels: ties in float32
# Behind float sums over whole planes: ONNX Runtime's InstanceNormalization of 800 x 800 numbers was
# seen 0.025 of a level off one in float64 (torch: 1e-5), which flips up to twice that share.
FLIPS_SUMMED, STEPS_SUMMED = 5e-2, 2


def build(found: Evaluation, *, kept_float: Collection[str] = ()) -> Report:
    """Return the report of a validation; a run adds its own parts with `dataclasses.replace`.

    Args:
        found: what was measured.
        kept_float: names of nodes that were left in float on purpose.
    """
    nothing = Comparison()
    labeled, synthetic = found.evaluation or nothing, found.synthetic or nothing
    closest = labeled if labeled.images else synthetic
    gates = tuple(_gates(found, kept_float))
    return Report(
        verdict=overall_verdict(gates),
        teacher=_facts(found.teacher, labeled.teacher_top1),
        student=_facts(found.student, labeled.student_top1),
        drop=labeled.drop,
        agreement=AgreementFacts(
            synthetic=synthetic.agreement,
            eval=labeled.agreement,
            kl=_least(closest, "kl", worst=max),
            sqnr_db=_least(closest, "sqnr_db", worst=min),
            outputs=closest.outputs,
        ),
        parity=ParityFacts() if found.parity is None else ParityFacts.of(found.parity),
        audit=found.audit,
        latency=found.latency,
        gates=gates,
        warnings=(found.note,) if found.note else (),
        disagreement=disagreement("evaluation" if labeled.images else "synthetic", closest.classes),
        class_names=found.class_names,
    )


def _facts(file: FileFacts, top1: Interval | None) -> ModelFacts:
    return ModelFacts(file.path, file.sha256, file.bytes, top1)


def _least(found: Comparison, key: str, *, worst: Callable[[list[float]], float]) -> float | None:
    """Return the figure of the worst output that has it."""
    values = [getattr(output, key) for output in found.outputs]
    known = [float(value) for value in values if value is not None]
    return worst(known) if known else None


def _gates(found: Evaluation, kept_float: Collection[str]) -> Iterator[Gate]:
    heavy = [
        node
        for node in found.audit.float_weighted
        if node.name not in kept_float and node.reason != FLOAT_WEIGHT
    ]
    names = ", ".join(node.name for node in heavy[:3]) + (", ..." if len(heavy) > 3 else "")
    yield Gate(
        "every quantized Conv, Gemm and MatMul runs on integers",
        f"{len(heavy)} in float: {names}" if heavy else "all of them",
        not heavy,
    )
    if found.parity is None:
        yield Gate("the runtime computes what the file says", "no images to compare on", None)
        return
    deployed, trained = found.parity.on_vs_off, found.parity.off_vs_torch
    yield Gate("the runtime computes what the file says", _differing(deployed), _equal(deployed))
    if trained is not None:
        summed = trained.behind_sums(True)
        holds = _equal(trained.behind_sums(False))
        holds &= summed.fraction <= FLIPS_SUMMED and summed.largest <= STEPS_SUMMED
        words = _differing(trained)
        if summed.quantizers:
            words += f"; {summed.fraction:.1e} of those behind float sums over whole planes"
        yield Gate("the file is what was trained", words, holds)


def _equal(levels: CodeMismatches) -> bool:
    return levels.fraction <= FLIPS and levels.largest <= STEP


def _differing(levels: CodeMismatches) -> str:
    return f"{levels.fraction:.1e} of the codes differ, by {levels.largest} levels at most"
