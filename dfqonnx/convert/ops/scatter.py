"""Reading and writing at computed places; negative indices count from the end of their axis."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator
from dfqonnx.convert.ops.window import padded

Reduction = Literal["none", "add", "mul", "max", "min"]
_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _wrap(indices: Tensor, size: int) -> Tensor:
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


@operator("GatherElements", 11, 13)
def gather_elements(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Return, for every index, the entry in the same place but for one axis."""
    return torch.gather(data, axis, _wrap(indices, data.shape[axis]))


@operator("GatherND", 11, 12, 13)
def gather_nd(data: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Return the slices that the rows of `indices` point at, batch axes walked together."""
    batch = data.shape[:batch_dims]
    count = math.prod(batch)
    rows = indices.reshape(count, -1, indices.shape[-1]).to(torch.int64)  # (batch, points, k)
    table = data.reshape(count, *data.shape[batch_dims:])
    each = torch.arange(count, device=data.device)[:, None]
    found = table[(each, *rows.unbind(-1))]
    rest = data.shape[batch_dims + indices.shape[-1] :]
    return found.reshape(*indices.shape[:-1], *rest)


@operator("Scatter", 9, 11)
@operator("ScatterElements", 11, 13, 16, 18)
def scatter_elements(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: Reduction = "none"
) -> Tensor:
    """Write every update at its index along one axis."""
    where = _wrap(indices, data.shape[axis])
    if reduction == "none":
        return data.scatter(axis, where, updates)
    return data.scatter_reduce(axis, where, updates, _REDUCE[reduction])


@operator("ScatterND", 11, 13, 16, 18)
def scatter_nd(
    data: Tensor, indices: Tensor, updates: Tensor, *, reduction: Reduction = "none"
) -> Tensor:
    """Write every slice of updates where its row of `indices` points."""
    k = indices.shape[-1]
    lead, rest = tuple(data.shape[:k]), tuple(data.shape[k:])
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=data.device)
    for axis, size in enumerate(lead):
        flat = flat * size + _wrap(indices[..., axis], size)
    table = data.reshape(math.prod(lead), -1)
    values = updates.reshape(-1, table.shape[1])
    where = flat.reshape(-1, 1).expand_as(values)
    if reduction == "none":
        written = table.scatter(0, where, values)
    else:
        written = table.scatter_reduce(0, where, values, _REDUCE[reduction])
    return written.reshape(lead + rest)


@operator("OneHot", 9, 11, 28)
def one_hot(indices: Tensor, depth: Ints, values: Tensor, *, axis: int = -1) -> Tensor:
    """Return values[1] at the index along a new axis, values[0] elsewhere."""
    size = int(depth[0])
    rank = indices.dim() + 1
    axis %= rank
    cells = torch.arange(size, device=indices.device).view(-1, *(1,) * (rank - 1 - axis))
    hit = _wrap(indices, size).unsqueeze(axis) == cells
    return torch.where(hit, values[1], values[0])


@operator("Compress", 9, 11, 28)
def compress(input: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """Keep the entries of an axis (or of the flattened input) whose condition holds."""
    if axis is None:
        input, axis = input.reshape(-1), 0
    return input.index_select(axis, torch.nonzero(condition).reshape(-1))


@operator("NonZero", 9, 13)
def non_zero(X: Tensor) -> Tensor:
    """Return the coordinates of the nonzero entries, one column each."""
    return torch.nonzero(X).t()


@operator("MaxUnpool", 9, 11, 22)
def max_unpool(
    X: Tensor,  # (N, C, ...)
    I: Tensor,  # noqa: E741  ONNX's name; flat indices into the output without `output_shape`
    output_shape: Ints | None = None,
    *,
    kernel_shape: Ints,
    pads: Ints | None = None,
    strides: Ints | None = None,
) -> Tensor:
    """Put every value where its maximum stood, zeros elsewhere."""
    rank = X.dim() - 2
    strides = strides or (1,) * rank
    pads = pads or (0,) * (2 * rank)
    size = tuple(
        (n - 1) * s + k - pads[axis] - pads[axis + rank]
        for axis, (n, s, k) in enumerate(zip(X.shape[2:], strides, kernel_shape, strict=True))
    )
    shape = (*X.shape[:2], *size)
    y = X.new_zeros(math.prod(shape)).scatter(0, I.reshape(-1), X.reshape(-1)).view(shape)
    if output_shape is None:
        return y
    room = tuple(m - n for n, m in zip(size, output_shape[2:], strict=True))
    return padded(y, (0,) * rank, room)
