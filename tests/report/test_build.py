"""The built-in checks of every report: what fails them, and what float sums over planes may do."""

from __future__ import annotations

import pytest

from dfqonnx.evaluation.code_mismatches import CodeMismatches, QuantizerMismatches
from dfqonnx.evaluation.evaluate import Evaluation
from dfqonnx.evaluation.file_size import FileFacts
from dfqonnx.evaluation.parity import Parity
from dfqonnx.report.build import build_report
from dfqonnx.runtime.kernel_audit import Audit

FILE = FileFacts("net.onnx", "0", 1)
SAME = CodeMismatches((QuantizerMismatches(quantizer="a", codes=100_000, differing=0, largest=0),))
TRAINED = "the file computes the codes of the trained student"
DEPLOYED = "the optimized session computes the codes that the file describes"


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
