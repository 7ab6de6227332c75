"""Rounding to codes: numpy and torch alike, ties to even, and ranges below a fused Clip."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dfqonnx.core.quantization import (
    INT8,
    UINT8,
    IntegerRange,
    dequantize,
    fake_quantize,
    quantize,
    round_in_range,
)

GRIDS = [UINT8.grid(8), UINT8.grid(4, negative=False), UINT8.grid(3), INT8.grid(4), INT8.grid(8)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_all_spellings_of_rounding_agree_for_numpy_and_torch(grid: IntegerRange) -> None:
    x = np.random.default_rng(0).normal(size=(5, 7)).astype("f4") * 40
    scale = np.full((5, 1), 0.37, "f4")
    codes = quantize(x, scale, grid)
    expected = np.clip(np.rint(x / scale) + grid.zero_point, grid.lo, grid.hi)
    assert np.array_equal(codes, expected)
    tensor, scales = torch.from_numpy(x), torch.from_numpy(scale)
    assert np.array_equal(quantize(tensor, scales, grid).numpy(), codes)
    centered = round_in_range(tensor, scales, grid.limits)
    assert np.array_equal(centered.numpy() + grid.zero_point, codes)
    reals = dequantize(codes, scale, grid)
    assert np.array_equal(fake_quantize(tensor, scales, grid.limits).numpy(), reals)
    assert np.array_equal(tensor.numpy(), x)  # nothing is rounded in place of what was given


def test_ties_go_to_the_even_code() -> None:
    x = np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    assert quantize(x, np.float32(1), INT8.grid(8)).tolist() == [-2.0, 0.0, 0.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("scale", "hi"), [(1.0, 6), (0.5, 12), (0.4, 15), (1e-8, 15), (24.0, 1)], ids=str
)
def test_a_range_below_a_clip_ends_at_its_code_and_keeps_two_codes(scale: float, hi: int) -> None:
    grid = UINT8.grid(4, negative=False)
    assert grid.below(6.0, scale) == IntegerRange(4, 0, hi, 0)
    assert grid.below(None, scale) == grid.below(math.inf, scale) == grid
