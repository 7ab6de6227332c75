"""Choosing elements: Slice, Gather, Where."""

from __future__ import annotations

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator


@operator("Slice", 1, 10, 11, 13)
def slice_(
    data: Tensor, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None
) -> Tensor:
    """Cut along axes as Python slices do; negative steps walk backwards."""
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    cuts = [slice(None)] * data.dim()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis %= data.dim()
        size = data.shape[axis]
        first, last, stride = slice(start, end, step).indices(size)
        if stride < 0:
            data = data.flip(axis)
            first, last, stride = size - 1 - first, size - 1 - last, -stride
        cuts[axis] = slice(first, max(first, last), stride)
    return data[tuple(cuts)]


@operator("Gather", 1, 11, 13)
def gather(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Pick entries along an axis; negative indices count from its end."""
    axis %= data.dim()
    flat = indices.reshape(-1)
    picked = data.index_select(axis, torch.where(flat < 0, flat + data.shape[axis], flat))
    return picked.reshape((*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :]))


@operator("Where", 9, 16)
def where(condition: Tensor, X: Tensor, Y: Tensor) -> Tensor:
    """Return X where the condition holds, else Y."""
    return torch.where(condition, X, Y)
