"""Sorting, running sums, triangles: along one axis or a matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator


@operator("TopK", 10, 11, 24)
def top_k(
    X: Tensor, K: Ints, *, axis: int = -1, largest: int = 1, sorted: int = 1, outputs: int = 1
) -> Tensor | tuple[Tensor, ...]:
    """Return the k largest (or smallest) along an axis and where they stood; ties by position."""
    del sorted
    values, indices = torch.sort(X, dim=axis, descending=bool(largest), stable=True)
    found = values.narrow(axis, 0, int(K[0])), indices.narrow(axis, 0, int(K[0]))
    return found[0] if outputs == 1 else found


@operator("TopK", 1)
def top_k_1(X: Tensor, *, k: int, axis: int = -1, outputs: int = 1) -> Tensor | tuple[Tensor, ...]:
    """Return the k largest, k given as an attribute."""
    return top_k(X, (k,), axis=axis, outputs=outputs)


@operator("CumSum", 11, 14)
def cum_sum(x: Tensor, axis: Ints, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Return running sums along an axis."""
    along = int(axis[0])
    x = x.flip(along) if reverse else x
    total = x.cumsum(along, dtype=x.dtype)
    total = total - x if exclusive else total
    return total.flip(along) if reverse else total


@operator("CumProd", 26)
def cum_prod(x: Tensor, axis: Ints, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """Return running products along an axis."""
    along = int(axis[0])
    x = x.flip(along) if reverse else x
    if exclusive:
        ones = torch.ones_like(x.narrow(along, 0, 1))
        x = torch.cat((ones, x.narrow(along, 0, x.shape[along] - 1)), along)
    product = x.cumprod(along, dtype=x.dtype)
    return product.flip(along) if reverse else product


@operator("Trilu", 14)
def trilu(input: Tensor, k: Ints | None = None, *, upper: int = 1) -> Tensor:
    """Keep the upper or the lower triangle of the last two axes."""
    diagonal = int(k[0]) if k else 0
    return torch.triu(input, diagonal) if upper else torch.tril(input, diagonal)


@operator("ReverseSequence", 10, 28)
def reverse_sequence(
    input: Tensor, sequence_lens: Tensor, *, batch_axis: int = 1, time_axis: int = 0
) -> Tensor:
    """Reverse the first `sequence_lens[b]` steps of every sequence b."""
    time = torch.arange(input.shape[time_axis], device=input.device)[:, None]  # (T, B)
    source = torch.where(time < sequence_lens, sequence_lens - 1 - time, time)
    moved = input.movedim((time_axis, batch_axis), (0, 1))  # (T, B, ...)
    where = source.view(*source.shape, *(1,) * (input.dim() - 2)).expand_as(moved)
    return moved.gather(0, where).movedim((0, 1), (time_axis, batch_axis))


@operator("Det", 11, 22)
def det(X: Tensor) -> Tensor:
    """Return the determinants of the matrices in the last two axes."""
    determinant: Tensor = torch.linalg.det(X)
    return determinant
