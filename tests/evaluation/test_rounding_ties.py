"""Which mismatches are ties, by values whose distance from the border is known."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from dfqonnx.evaluation.code_forcing import CodeTensor
from dfqonnx.evaluation.code_mismatches import QuantizerMismatches
from dfqonnx.evaluation.rounding_ties import TIE, count_ties

CODE = CodeTensor(quantizer="a", value="c", dtype=TensorProto.UINT8, scale=0.25, zero_point=128)


@pytest.mark.parametrize(
    ("level", "found", "expected", "ties"),
    [
        (10.5, 138, 139, 1),  # exactly on the border between both codes
        (10.5 + TIE / 2, 138, 139, 1),
        (10.5 + 2 * TIE, 138, 139, 0),  # the value is on one side
        (10.5, 139, 138, 1),
        (10.5, 138, 140, 0),  # two levels are never a tie
        (10.5, 138, 138, 0),  # no mismatch
        (11.5, 138, 139, 0),  # on another border
        (-3.5, 124, 125, 1),
    ],
)
def test_a_mismatch_is_a_tie_where_the_value_is_on_the_border_between_both_codes(
    level: float, found: int, expected: int, ties: int
) -> None:
    real = np.array([[level * 0.25]], np.float32)
    codes = np.array([[found]], np.uint8), np.array([[expected]], np.uint8)
    assert count_ties(CODE, real, *codes) == ties


def test_ties_and_a_few_flips_make_no_fault() -> None:
    def found(differing: int, ties: int, largest: int = 1) -> bool:
        counts = {"codes": 10_000, "differing": differing, "ties": ties, "largest": largest}
        return QuantizerMismatches(quantizer="a", **counts).faulty

    assert not found(3, 0)
    assert found(4, 0)
    assert not found(2_000, 1_999)
    assert found(1, 0, largest=2)
