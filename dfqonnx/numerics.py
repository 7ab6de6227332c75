"""Quantize and dequantize: the only spelling of rounding.

    codes = clip(round_half_even(x / scale) + zero_point, lo, hi)         (ONNX QuantizeLinear)
    x'    = (codes - zero_point) * scale                                  (ONNX DequantizeLinear)

Only `.round()` and `.clip()` are used, so numpy arrays and torch tensors go through the same lines.
"""

from __future__ import annotations

from typing import Any

from dfqonnx.spec.quant import Grid


def quantize(x: Any, scale: Any, grid: Grid) -> Any:
    """Return the codes of `x` in the dtype of `x`; `scale` broadcasts against `x`."""
    return ((x / scale).round() + grid.zero_point).clip(grid.lo, grid.hi)


def dequantize(codes: Any, scale: Any, grid: Grid) -> Any:
    """Return the reals that `codes` stand for."""
    return (codes - grid.zero_point) * scale
