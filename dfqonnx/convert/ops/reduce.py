"""Reductions over axes, the axes being an input (new forms) or an attribute (old forms).

No axes means all of them, unless `noop_with_empty_axes` asks for none.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dfqonnx.convert.op_registry import Ints, operator

Reduction = Callable[[Tensor, Ints, bool], Tensor]
Map = Callable[[Tensor], Tensor]


def _product(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _typed_sum(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _extreme(function: Callable[..., Tensor], empty: Callable[[torch.dtype], float]) -> Reduction:
    def reduce(x: Tensor, axes: Ints, keep: bool) -> Tensor:
        found: Tensor
        if all(x.shape[axis] for axis in axes):
            found = function(x, axes, keepdim=keep)
            return found
        shape = x.sum(axes, keepdim=keep).shape
        return torch.full(shape, empty(x.dtype), dtype=x.dtype, device=x.device)

    return reduce


def _highest(dtype: torch.dtype) -> float:
    if dtype.is_floating_point:
        return math.inf
    return True if dtype is torch.bool else torch.iinfo(dtype).max


def _lowest(dtype: torch.dtype) -> float:
    if dtype.is_floating_point:
        return -math.inf
    return False if dtype is torch.bool else torch.iinfo(dtype).min


def _in_reals(function: Callable[..., Tensor]) -> Reduction:
    """Compute in float64 what holds integers, and bring the result back to their type."""

    def reduce(x: Tensor, axes: Ints, keep: bool) -> Tensor:
        kind = x.dtype if x.is_floating_point() else torch.float64
        return function(x.to(kind), dim=axes, keepdim=keep).to(x.dtype)

    return reduce


def _log_sum(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep).log().to(x.dtype)


def _l1(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    return _typed_sum(x.abs(), axes, keep)


def _sum_square(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    return _typed_sum(x.square(), axes, keep)


def _same(x: Tensor) -> Tensor:
    return x


_REDUCTIONS: tuple[tuple[str, Ints, Reduction, Map], ...] = (  # the map: over no axis at all
    ("ReduceSum", (1, 11, 13), _typed_sum, _same),
    ("ReduceMean", (1, 11, 13, 18), _in_reals(torch.mean), _same),
    ("ReduceMax", (1, 11, 12, 13, 18, 20), _extreme(torch.amax, _lowest), _same),
    ("ReduceMin", (1, 11, 12, 13, 18, 20), _extreme(torch.amin, _highest), _same),
    ("ReduceProd", (1, 11, 13, 18), _product, _same),
    ("ReduceL1", (1, 11, 13, 18), _l1, torch.abs),
    ("ReduceL2", (1, 11, 13, 18), _in_reals(torch.linalg.vector_norm), torch.abs),
    ("ReduceLogSum", (1, 11, 13, 18, 28), _log_sum, torch.log),
    ("ReduceLogSumExp", (1, 11, 13, 18, 28), _in_reals(torch.logsumexp), _same),
    ("ReduceSumSquare", (1, 11, 13, 18), _sum_square, torch.square),
)


def _file(name: str, since: Ints, reduction: Reduction, single: Map) -> None:
    def reduce(
        data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        if not axes and noop_with_empty_axes:
            return single(data)
        over = tuple(a % data.dim() for a in axes) if axes else tuple(range(data.dim()))
        return reduction(data, over, bool(keepdims)) if over else single(data)

    reduce.__name__ = reduce.__qualname__ = name.lower()
    operator(name, *since)(reduce)


for _row in _REDUCTIONS:
    _file(*_row)


def _arg(name: str, function: Callable[..., Tensor]) -> None:
    def arg(
        data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
    ) -> Tensor:
        if not select_last_index:
            return function(data, axis, keepdim=bool(keepdims))
        backwards = function(data.flip(axis), axis, keepdim=bool(keepdims))
        return data.shape[axis] - 1 - backwards

    operator(name, 1, 11, 12, 13)(arg)


_arg("ArgMax", torch.argmax)
_arg("ArgMin", torch.argmin)
