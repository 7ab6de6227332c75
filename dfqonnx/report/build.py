"""Builds the report of an evaluation, for `run` and `validate` alike, with the built-in checks.

A built-in check is a gate that every result must meet; gates about accuracy are the user's to set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator

from dfqonnx.evaluation.evaluate import Evaluation
from dfqonnx.evaluation.file_size import FileFacts
from dfqonnx.evaluation.outputs import Comparison
from dfqonnx.evaluation.parity import CodeMismatches
from dfqonnx.evaluation.statistics import Interval
from dfqonnx.report.number_format import format_names
from dfqonnx.report.report import Report
from dfqonnx.report.sections import (
    AgreementFacts,
    Gate,
    MismatchFacts,
    ModelFacts,
    ParityFacts,
    count_disagreements,
)
from dfqonnx.runtime.fallback_reasons import FLOAT_WEIGHT

# Ties in float32 may be rounded to either side: so many of the codes may mismatch, by one level.
MAX_MISMATCH_FRACTION, MAX_MISMATCH_LEVELS = 1e-4, 1
# Behind float sums over whole planes: ONNX Runtime's InstanceNormalization of 800 x 800 numbers was
# measured 0.025 of a level off the float64 result (torch: 1e-5), which changes up to twice that
# fraction of the codes.
MAX_SUMMED_FRACTION, MAX_SUMMED_LEVELS = 5e-2, 2


def build_report(
    found: Evaluation,
    *,
    kept_float: Collection[str] = (),
    evaluation_same_class: float | None = None,
) -> Report:
    """Return the report of an evaluation; a run adds its own parts with `dataclasses.replace`.

    The nodes in `kept_float` are meant to stay in float.
    """
    nothing = Comparison()
    labeled, synthetic = found.evaluation or nothing, found.synthetic or nothing
    shown = labeled if labeled.images else synthetic
    return Report(
        teacher=_model_facts(found.teacher, labeled.teacher_top1),
        student=_model_facts(found.student, labeled.student_top1),
        drop=labeled.drop,
        agreement=AgreementFacts(
            synthetic=synthetic.agreement,
            evaluation=labeled.agreement,
            kl=_worst_of(shown, "kl", worst=max),
            sqnr_db=_worst_of(shown, "sqnr_db", worst=min),
            outputs=shown.outputs,
        ),
        parity=_parity_facts(found, evaluation_same_class),
        audit=found.audit,
        latency=found.latency,
        gates=tuple(_built_in_checks(found, kept_float)),
        warnings=(found.note,) if found.note else (),
        disagreement=count_disagreements(
            "evaluation" if labeled.images else "synthetic", shown.classes
        ),
        class_names=found.class_names,
    )


def _model_facts(file: FileFacts, top1: Interval | None) -> ModelFacts:
    return ModelFacts(file.path, file.sha256, file.bytes, top1)


def _parity_facts(found: Evaluation, same_class: float | None) -> ParityFacts:
    facts = ParityFacts() if found.parity is None else ParityFacts.of(found.parity)
    if same_class is None or found.evaluation is None:
        return facts
    return dataclasses.replace(
        facts, evaluation_same_class=same_class, evaluation_images=found.evaluation.images
    )


def _worst_of(
    found: Comparison, field: str, *, worst: Callable[[list[float]], float]
) -> float | None:
    values = [getattr(output, field) for output in found.outputs]
    known = [float(value) for value in values if value is not None]
    return worst(known) if known else None


def _built_in_checks(found: Evaluation, kept_float: Collection[str]) -> Iterator[Gate]:
    in_float = [
        node.name
        for node in found.audit.float_weighted
        if node.name not in kept_float and node.reason != FLOAT_WEIGHT
    ]
    yield Gate(
        rule="every quantized Conv, Gemm and MatMul runs on integers",
        value=f"{len(in_float)} in float: {format_names(in_float)}" if in_float else "all do",
        holds=not in_float,
    )
    rule = "the optimized session computes the codes that the file describes"
    if found.parity is None:
        yield Gate(rule=rule, value="there are no images to compare on", holds=None)
        return
    deployed, trained = found.parity.on_vs_off, found.parity.off_vs_torch
    yield Gate(rule=rule, value=str(MismatchFacts.of(deployed)), holds=_matches(deployed))
    if trained is not None:
        summed = trained.behind_sums(True)
        holds = _matches(trained.behind_sums(False))
        holds &= summed.fraction <= MAX_SUMMED_FRACTION and summed.largest <= MAX_SUMMED_LEVELS
        value = str(MismatchFacts.of(trained))
        if summed.quantizers:
            value += f"; {summed.fraction:.1e} of those behind float sums over whole planes"
        yield Gate(
            rule="the file computes the codes of the trained student", value=value, holds=holds
        )


def _matches(found: CodeMismatches) -> bool:
    return found.fraction <= MAX_MISMATCH_FRACTION and found.largest <= MAX_MISMATCH_LEVELS
