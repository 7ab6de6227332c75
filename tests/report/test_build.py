"""The built-in checks of every report: what fails them, and what float sums over planes may do."""

from __future__ import annotations

import pytest

from dfqonnx.evaluation.evaluate import Evaluation
from dfqonnx.evaluation.file_size import FileFacts
from dfqonnx.evaluation.parity import CodeMismatches, Parity, QuantizerMismatches
from dfqonnx.report.build import build_report
from dfqonnx.runtime.kernel_audit import Audit

FILE = FileFacts("net.onnx", "0", 1)
SAME = CodeMismatches((QuantizerMismatches("a", 100_000, 0, 0),))
TRAINED = "the file computes the codes of the trained student"
DEPLOYED = "the optimized session computes the codes that the file describes"


def gate(
    rule: str, *, trained: CodeMismatches = SAME, deployed: CodeMismatches = SAME
) -> tuple[bool | None, str]:
    parity = Parity(deployed, trained, trained, None, None, 0.0, 0.0, 1)
    audit = Audit({}, {}, (), "cpu")
    found = Evaluation(FILE, FILE, None, None, parity, audit, None, "", "1", "cpu")
    (chosen,) = [gate for gate in build_report(found).gates if gate.rule == rule]
    return chosen.holds, chosen.value


@pytest.mark.parametrize(
    ("differing", "largest", "holds"), [(10, 1, True), (11, 1, False), (1, 2, False)]
)
def test_one_code_in_ten_thousand_may_differ_by_a_level(
    differing: int, largest: int, holds: bool
) -> None:
    levels = CodeMismatches((QuantizerMismatches("a", 100_000, differing, largest),))
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
    summed = QuantizerMismatches("b", 100_000, differing, largest, summed=True)
    found, words = gate(TRAINED, trained=CodeMismatches((*SAME.sites, summed)))
    assert found is holds
    assert words.endswith(
        f"; {differing / 100_000:.1e} of those behind float sums over whole planes"
    )
    plain = CodeMismatches(
        (
            QuantizerMismatches("a", 100_000, 11, 1),
            QuantizerMismatches("b", 100_000, 0, 0, summed=True),
        )
    )
    assert gate(TRAINED, trained=plain)[0] is False
    # one runtime, one order of adding up: no excuse
    assert (
        gate(
            DEPLOYED, deployed=CodeMismatches((QuantizerMismatches("b", 1000, 1, 1, summed=True),))
        )[0]
        is False
    )
