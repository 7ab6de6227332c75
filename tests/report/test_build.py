"""The built-in checks of every report: what fails them, and what float sums over planes may do."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from dfqonnx.evaluation.code_mismatches import CodeMismatches, QuantizerMismatches
from dfqonnx.evaluation.evaluate import Evaluation
from dfqonnx.evaluation.file_size import FileFacts
from dfqonnx.evaluation.outputs import Comparison, OutputDistance
from dfqonnx.evaluation.parity import Parity
from dfqonnx.evaluation.statistics import wilson_interval
from dfqonnx.report.build import NOT_SLOWER, SMALLER, build_report
from dfqonnx.report.verdict import Gate
from dfqonnx.runtime.fallback_reasons import FLOAT_WEIGHT
from dfqonnx.runtime.kernel_audit import Audit, FloatKernel
from dfqonnx.runtime.latency import Latency

FILE = FileFacts("net.onnx", "0", 1)
SAME = CodeMismatches((QuantizerMismatches(quantizer="a", codes=100_000, differing=0, largest=0),))
TRAINED = "the file computes the codes of the trained student"
DEPLOYED = "the optimized session computes the codes that the file describes"


QUICK = Latency(teacher_ms=1.0, student_ms=1.0, speedup=1.0, low=0.9, high=1.1, batch=1, threads=1)
PARITY = Parity(
    on_vs_off=SAME, off_vs_torch=SAME, top1_on_vs_off=0.5, top1_on_vs_torch=0.75,
    output_on_vs_off=0.0, images=8,
)  # fmt: skip


def evaluated(**changes: Any) -> Evaluation:
    found = Evaluation(
        teacher=FileFacts("net.onnx", "0", 1000), student=FileFacts("s.onnx", "1", 300),
        synthetic=None, evaluation=None, parity=PARITY,
        audit=Audit({"QLinearConv": 1}, {}, (), "cpu"), latency=QUICK, note="", runtime="1",
        provider="cpu",
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


def check(rule: str, found: Evaluation, **given: Any) -> Gate:
    (chosen,) = [gate for gate in build_report(found, **given).gates if gate.rule == rule]
    assert (chosen.topic, chosen.origin) == ("file", "check")
    return chosen


@pytest.mark.parametrize(("size", "holds"), [(999, True), (1000, False), (1390, False)])
def test_a_file_is_smaller_only_below_the_size_of_float(size: int, holds: bool) -> None:
    found = check(SMALLER, evaluated(student=FileFacts("s.onnx", "1", size)))
    assert (found.holds, found.is_required) == (holds, False)
    assert found.value == f"{size / 1000:.3f} times its size"


@pytest.mark.parametrize(
    ("low", "high", "holds"),
    [(0.5, 0.949, False), (0.5, 0.95, True), (0.96, 1.2, True), (0.3, 1.4, True)],
)
def test_a_file_is_slower_only_where_three_quarters_of_all_turns_say_so(
    low: float, high: float, holds: bool
) -> None:
    times = dataclasses.replace(QUICK, low=low, high=high)
    found = check(NOT_SLOWER, evaluated(latency=times))
    assert (found.holds, found.is_required) == (holds, False)
    rules = [gate.rule for gate in build_report(evaluated(latency=None)).gates]
    assert NOT_SLOWER not in rules


def test_speed_of_one_and_the_same_file_is_never_called_slower() -> None:
    """Quartiles of 400 ratios that scatter by 5 % around one never lie below 0.95."""
    rng = np.random.default_rng(0)
    for _ in range(500):
        low, middle, high = np.percentile(rng.normal(1, 0.05, 400), (25, 50, 75))
        times = dataclasses.replace(QUICK, speedup=middle, low=low, high=high)
        assert check(NOT_SLOWER, evaluated(latency=times)).holds


INTEGERS = "every quantized Conv, Gemm and MatMul runs on integers"


@pytest.mark.parametrize(
    ("kernel", "kept", "holds"),
    [
        (FloatKernel("a", "Conv", "why"), (), False),
        (FloatKernel("a", "Conv", "why"), ("a",), True),
        (FloatKernel("a", "Conv", FLOAT_WEIGHT), (), True),
        (FloatKernel("a", "Softmax", "why"), (), True),
    ],
)
def test_a_quantized_product_in_float_fails(
    kernel: FloatKernel, kept: tuple[str, ...], holds: bool
) -> None:
    audit = Audit({"QLinearConv": 1}, {}, (kernel,), "cpu")
    found = check(INTEGERS, evaluated(audit=audit), kept_float=kept)
    assert (found.holds, found.is_required) == (holds, True)
    assert found.value == ("all do" if holds else "1 in float: a")
    nothing = check(INTEGERS, evaluated(audit=Audit({}, {}, (), "cpu")))
    assert (nothing.holds, nothing.value) == (None, "none is quantized")
    failing = Audit({}, {}, (FloatKernel("a", "Conv", "why"),), "cpu")
    assert check(INTEGERS, evaluated(audit=failing)).holds is False


def test_without_quantizers_or_images_parity_is_open() -> None:
    found = check(DEPLOYED, evaluated(parity=None))
    assert found.holds is None
    assert TRAINED not in [gate.rule for gate in build_report(evaluated(parity=None)).gates]
    foreign = dataclasses.replace(PARITY, off_vs_torch=None)
    assert TRAINED not in [gate.rule for gate in build_report(evaluated(parity=foreign)).gates]


def comparison(images: int, *, sqnr: tuple[float | None, ...], kl: float, same: int) -> Comparison:
    outputs = (OutputDistance(name=f"y{k}", sqnr_db=v, kl=kl + k) for k, v in enumerate(sqnr))
    return Comparison(
        images=images, agreement=wilson_interval(same, images), outputs=tuple(outputs)
    )


def test_evaluation_images_come_before_synthetic_ones_and_the_worst_output_counts() -> None:
    synthetic = comparison(13, sqnr=(9.0,), kl=0.5, same=10)
    labeled = comparison(2000, sqnr=(30.0, 12.0, None), kl=0.1, same=1886)
    both = build_report(evaluated(synthetic=synthetic, evaluation=labeled)).agreement
    assert (both.images, both.image_set) == (2000, "evaluation")
    assert (both.sqnr_db, both.kl) == (12.0, 2.1)
    assert both.outputs == labeled.outputs
    assert (both.synthetic, both.evaluation) == (synthetic.agreement, labeled.agreement)
    assert both.best_known == labeled.agreement
    assert both.best_known_set == "evaluation images"
    one = build_report(evaluated(synthetic=synthetic)).agreement
    assert (one.images, one.image_set, one.sqnr_db, one.kl) == (13, "synthetic", 9.0, 0.5)
    assert one.best_known_set == "synthetic images"
    none = build_report(evaluated()).agreement
    assert (none.images, none.image_set, none.sqnr_db, none.kl) == (0, "", None, None)


def test_the_same_class_on_evaluation_images_needs_some() -> None:
    labeled = comparison(2000, sqnr=(30.0,), kl=0.1, same=1886)
    found = build_report(evaluated(evaluation=labeled), evaluation_same_class=(0.99, 1024)).parity
    assert (found.evaluation_same_class, found.evaluation_images) == (0.99, 1024)
    assert (found.same_class, found.images) == (0.75, 8)
    for parity in (
        build_report(evaluated(), evaluation_same_class=(0.99, 1024)).parity,
        build_report(evaluated(evaluation=labeled)).parity,
    ):
        assert (parity.evaluation_same_class, parity.evaluation_images) == (None, None)
    bare = build_report(
        evaluated(parity=None, evaluation=labeled), evaluation_same_class=(0.9, 1024)
    ).parity
    assert (bare.images, bare.evaluation_same_class) == (None, 0.9)


def test_nodes_at_fault_are_named_only_where_the_check_fails() -> None:
    few = QuantizerMismatches(quantizer="b", codes=1000, differing=4, largest=1, nodes=("culprit",))
    many = dataclasses.replace(few, differing=40)
    for quantizer, holds in ((few, True), (many, False)):
        deployed = CodeMismatches((*SAME.quantizers, quantizer))
        parity = dataclasses.replace(PARITY, on_vs_off=deployed)
        found = check(DEPLOYED, evaluated(parity=parity))
        assert found.holds is holds
        assert ("culprit" in found.value) is not holds


def test_what_was_done_to_the_images_is_a_warning() -> None:
    assert build_report(evaluated(note="resized")).warnings == ("resized",)
    assert build_report(evaluated()).warnings == ()


def gate(
    rule: str, *, trained: CodeMismatches = SAME, deployed: CodeMismatches = SAME
) -> tuple[bool | None, str]:
    parity = Parity(
        on_vs_off=deployed, off_vs_torch=trained, top1_on_vs_off=None, top1_on_vs_torch=None,
        output_on_vs_off=0.0, images=1,
    )  # fmt: skip
    audit = Audit({}, {}, (), "cpu")
    found = Evaluation(
        teacher=FILE, student=FILE, synthetic=None, evaluation=None, parity=parity, audit=audit,
        latency=None, note="", runtime="1", provider="cpu",
    )  # fmt: skip
    (chosen,) = [gate for gate in build_report(found).gates if gate.rule == rule]
    return chosen.holds, chosen.value


@pytest.mark.parametrize(
    ("differing", "largest", "holds"), [(10, 1, True), (11, 1, False), (1, 2, False)]
)
def test_one_code_in_ten_thousand_may_differ_by_a_level(
    differing: int, largest: int, holds: bool
) -> None:
    levels = CodeMismatches(
        (QuantizerMismatches(quantizer="a", codes=100_000, differing=differing, largest=largest),)
    )
    levels_word = "level" if largest == 1 else "levels"
    words = f"{differing / 100_000:.1e} of the codes mismatch, by at most {largest} {levels_word}"
    assert gate(TRAINED, trained=levels) == (holds, words)
    assert gate(DEPLOYED, deployed=levels) == (holds, words)


@pytest.mark.parametrize(
    ("wide", "largest", "holds"),
    [(True, 9, True), (True, 14, True), (True, 15, False), (False, 9, False)],
)
def test_behind_sums_codes_of_16_bits_may_differ_by_as_much_of_their_range(
    wide: bool, largest: int, holds: bool
) -> None:
    both = CodeMismatches(
        tuple(
            QuantizerMismatches(
                quantizer=name, codes=100_000, differing=differing, largest=levels, summed=True,
                wide=is_wide,
            )
            for name, differing, levels, is_wide in (
                ("a", 60_000 if wide else 10, largest, wide), ("b", 10, 2, False),
            )
        )
    )  # fmt: skip
    if not wide:
        both = CodeMismatches(both.quantizers[:1])
    assert gate(TRAINED, trained=both)[0] is holds


@pytest.mark.parametrize(
    ("differing", "largest", "holds"), [(5_000, 2, True), (5_001, 1, False), (1, 3, False)]
)
def test_float_sums_over_planes_excuse_what_stands_behind_them_and_nothing_else(
    differing: int, largest: int, holds: bool
) -> None:
    summed = QuantizerMismatches(
        quantizer="b", codes=100_000, differing=differing, largest=largest, summed=True
    )
    found, words = gate(TRAINED, trained=CodeMismatches((*SAME.quantizers, summed)))
    assert found is holds
    assert words.endswith(
        f"; {differing / 100_000:.1e} of those behind float sums over whole planes"
    )
    plain = CodeMismatches(
        (
            QuantizerMismatches(quantizer="a", codes=100_000, differing=11, largest=1),
            QuantizerMismatches(quantizer="b", codes=100_000, differing=0, largest=0, summed=True),
        )
    )
    assert gate(TRAINED, trained=plain)[0] is False
    # one runtime, one order of adding up: no excuse
    assert (
        gate(
            DEPLOYED,
            deployed=CodeMismatches(
                (
                    QuantizerMismatches(
                        quantizer="b", codes=1000, differing=1, largest=1, summed=True
                    ),
                )
            ),
        )[0]
        is False
    )
