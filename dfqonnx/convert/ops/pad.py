"""Pad: constant, reflect, edge, wrap; negative amounts crop.

Modes other than constant are gathers: output cell i of an axis of size n reads input cell

    reflect  m = (i - begin) mod 2(n - 1), the smaller of m and 2(n - 1) - m
    edge     clamp(i - begin, 0, n - 1)
    wrap     (i - begin) mod n
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, Numbers, operator
from dfqonnx.convert.ops.window import padded

Mode = Literal["constant", "reflect", "edge", "wrap"]


@operator("Pad", 11, 13, 18, 19, 21, 23, 24, 25)
def pad(
    data: Tensor,
    pads: Ints,
    constant_value: Numbers | None = None,
    axes: Ints | None = None,
    *,
    mode: Mode = "constant",
) -> Tensor:
    """Grow or crop the axes."""
    rank = data.dim()
    chosen = tuple(range(rank)) if axes is None else tuple(axis % rank for axis in axes)
    begin, end = [0] * rank, [0] * rank
    for position, axis in enumerate(chosen):
        begin[axis], end[axis] = pads[position], pads[position + len(chosen)]
    if mode == "constant":
        fill = constant_value[0] if constant_value else 0
        return padded(data, tuple(begin), tuple(end), value=fill)
    for axis in range(rank):
        if begin[axis] or end[axis]:
            source = _find_source(data.shape[axis], begin[axis], end[axis], mode=mode)
            data = data.index_select(axis, source.to(data.device))
    return data


def _find_source(n: int, begin: int, end: int, *, mode: Mode) -> Tensor:
    """Return which input cell each output cell of an axis reads."""
    cells = torch.arange(-begin, n + end)
    if mode == "edge":
        return cells.clamp(0, n - 1)
    if mode == "wrap":
        return cells.remainder(n)
    if n == 1:
        return torch.zeros_like(cells)
    folded = cells.remainder(2 * (n - 1))
    return torch.minimum(folded, 2 * (n - 1) - folded)


@operator("Pad", 2)
def pad_2(
    data: Tensor,
    *,
    pads: Ints,
    mode: Literal["constant", "reflect", "edge"] = "constant",
    value: float = 0.0,
) -> Tensor:
    """Pad with amounts given as attributes."""
    return pad(data, pads, (value,), mode=mode)
