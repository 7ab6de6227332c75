"""Builds the report of an evaluation, for `run` and `validate` alike, with the built-in checks.

A built-in check is a gate about the file that every result should meet; those about size and speed
only warn. Gates about accuracy are the user's to set.

Speed is noisy: the student counts as slower only where three quarters of all turns say so by more
than a twentieth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

from dfqonnx.evaluation.code_mismatches import (
    MAX_MISMATCH_FRACTION,
    MAX_MISMATCH_LEVELS,
    CodeMismatches,
)
from dfqonnx.evaluation.evaluate import Evaluation
from dfqonnx.evaluation.outputs import Comparison
from dfqonnx.report.number_format import format_names
from dfqonnx.report.report import Report
from dfqonnx.report.sections import (
    AgreementFacts,
    MismatchFacts,
    ModelFacts,
    ParityFacts,
    count_disagreements,
)
from dfqonnx.report.target_checks import check_target
from dfqonnx.report.verdict import Gate
from dfqonnx.runtime.fallback_reasons import FLOAT_WEIGHT, WIDE
from dfqonnx.targets.onnxruntime_cpu import ONNXRUNTIME_CPU
from dfqonnx.targets.profile import TargetProfile

SMALLER = "smaller than the float file"
NOT_SLOWER = "not slower than the float model"
LEAST_SPEEDUP = 0.95


def build_report(
    found: Evaluation,
    *,
    kept_float: Collection[str] = (),
    evaluation_same_class: tuple[float, int] | None = None,
    target: TargetProfile = ONNXRUNTIME_CPU,
) -> Report:
    """Return the report of an evaluation; a run adds its own parts with `dataclasses.replace`.

    The nodes in `kept_float` are meant to stay in float. What the optimizations of ONNX Runtime's
    CPU kernels compute is judged only where they are the `target`.
    """
    nothing = Comparison()
    labeled, synthetic = found.evaluation or nothing, found.synthetic or nothing
    shown = labeled if labeled.images else synthetic
    image_set = "evaluation" if labeled.images else "synthetic"
    sqnr_db = min((o.sqnr_db for o in shown.outputs if o.sqnr_db is not None), default=None)
    return Report(
        teacher=ModelFacts(**vars(found.teacher), top1=labeled.teacher_top1),
        student=ModelFacts(**vars(found.student), top1=labeled.student_top1),
        drop=labeled.drop,
        agreement=AgreementFacts(
            synthetic=synthetic.agreement,
            evaluation=labeled.agreement,
            kl=max((o.kl for o in shown.outputs if o.kl is not None), default=None),
            sqnr_db=sqnr_db,
            outputs=shown.outputs,
            images=shown.images,
            image_set=image_set if shown.images else "",
        ),
        parity=_parity_facts(found, evaluation_same_class),
        audit=found.audit,
        latency=found.latency,
        proof=found.proof,
        gates=tuple(_built_in_checks(found, kept_float, target, sqnr_db)),
        warnings=(found.note,) if found.note else (),
        disagreement=count_disagreements(image_set, shown.classes),
        class_names=found.class_names,
        measures=found.measures,
        notes=found.notes,
    )


def _parity_facts(found: Evaluation, same_class: tuple[float, int] | None) -> ParityFacts:
    facts = ParityFacts() if found.parity is None else ParityFacts.of(found.parity)
    if same_class is None or found.evaluation is None:
        return facts
    share, images = same_class
    return dataclasses.replace(facts, evaluation_same_class=share, evaluation_images=images)


def _built_in_checks(
    found: Evaluation,
    kept_float: Collection[str],
    target: TargetProfile,
    sqnr_db: float | None,
) -> Iterator[Gate]:
    yield from _check_cost(found)
    if found.proof is not None:
        yield from check_target(found.proof, sqnr_db)
    if found.proof is None or not found.proof.is_rules_only:
        yield from _check_kernels(found, kept_float)
    yield from _check_parity(found, target)


def _check_cost(found: Evaluation) -> Iterator[Gate]:
    words = f"{found.size_ratio:.3f} times its size"
    yield Gate(rule=SMALLER, value=words, holds=found.size_ratio < 1, is_required=False)
    t = found.latency
    if t is not None:
        words = f"{t.speedup:.2f} times its speed (quartiles: {t.low:.2f} to {t.high:.2f})"
        holds = t.high >= LEAST_SPEEDUP
        yield Gate(rule=NOT_SLOWER, value=words, holds=holds, is_required=False)


def _check_kernels(found: Evaluation, kept_float: Collection[str]) -> Iterator[Gate]:
    in_float = [
        node.name
        for node in found.audit.float_weighted
        if node.name not in kept_float and node.reason not in {FLOAT_WEIGHT, WIDE}
    ]
    wide = sum(node.reason == WIDE for node in found.audit.float_weighted)
    whole = "all do" if found.audit.integer_nodes else "none is quantized"
    if wide:
        whole = f"all with codes of 8 bits do; {wide} with codes of 16 bits are in float, as asked"
    yield Gate(
        rule="every quantized Conv, Gemm and MatMul runs on integers",
        value=f"{len(in_float)} in float: {format_names(in_float)}" if in_float else whole,
        holds=False if in_float else True if found.audit.integer_nodes else None,
    )


def _check_parity(found: Evaluation, target: TargetProfile) -> Iterator[Gate]:
    rule = "the optimized session computes the codes that the file describes"
    if found.parity is None:
        yield Gate(
            rule=rule, value="the file has no quantizers, or there are no images", holds=None
        )
        return
    deployed, trained = found.parity.on_vs_off, found.parity.off_vs_torch
    if target.on_onnxruntime_cpu:
        yield Gate(rule=rule, value=_describe(deployed), holds=_matches(deployed))
    if trained is not None:
        summed = trained.behind_sums(True)
        holds = _matches(trained.behind_sums(False)) and trained.sums_agree
        value = _describe(trained)
        if summed.quantizers:
            value += f"; {summed.fraction:.1e} of those behind float sums over whole planes"
        yield Gate(
            rule="the file computes the codes of the trained student", value=value, holds=holds
        )


def _matches(found: CodeMismatches) -> bool:
    few = found.fraction_without_ties <= MAX_MISMATCH_FRACTION
    return few and found.largest <= MAX_MISMATCH_LEVELS


def _describe(found: CodeMismatches) -> str:
    """Return the mismatches in words: ties apart, and the nodes at fault by name."""
    words = str(MismatchFacts.of(found))
    if ties := found.fraction - found.fraction_without_ties:
        words += f"; {ties:.1e} where the real value lies on the border between two codes"
    if not _matches(found):
        nodes = dict.fromkeys(node for each in found.faulty for node in each.nodes)
        words += f"; they arise at {format_names(list(nodes))}" if nodes else ""
    return words
