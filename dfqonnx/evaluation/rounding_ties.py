"""Codes that differ because a real value lies on the border between two codes.

    codes = rint(v / s) + z           a tie where v / s lies within `TIE` of a half

Two float32 computations of v / s differ by some units of the last place: next to a half, either
code is a right one. A value of 255 levels keeps 1.5e-5 of a level, and a sum of n products about
sqrt(n) times that: `TIE` holds for four thousand of them. Of 65,535 levels it is 257 times as much,
a quarter of a level. Where a node makes few different values
(a product with a scalar, a mean of four codes), one tie is many codes, and so ties are counted
apart from other mismatches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.code_forcing import WIDE_LEVELS, CodeTensor

TIE = 1e-3  # of one of 255 levels


def count_ties(
    code: CodeTensor, real: NDArray[Any], found: NDArray[Any], expected: NDArray[Any]
) -> int:
    """Return how many mismatches of one level are ties.

    `real` are the values that the quantizer of `code` rounds, `found` and `expected` the codes of
    two executions, all of one shape.
    """
    found, expected = found.astype(np.int32), expected.astype(np.int32)
    levels = real.astype(np.float64) / code.scale
    between = np.maximum(found, expected) - code.zero_point - 0.5  # the border between both codes
    near = np.abs(levels - between) <= (TIE * WIDE_LEVELS if code.wide else TIE)
    return int(np.count_nonzero(near & (np.abs(found - expected) == 1)))
