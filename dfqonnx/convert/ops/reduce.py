"""Reductions over axes, with the axes as an input (new forms) or as an attribute (old forms).

No axes means all of them, unless `noop_with_empty_axes` asks for none.
"""

from __future__ import annotations

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
        return float("inf")
    return True if dtype is torch.bool else torch.iinfo(dtype).max


def _lowest(dtype: torch.dtype) -> float:
    if dtype.is_floating_point:
        return float("-inf")
    return False if dtype is torch.bool else torch.iinfo(dtype).min


def _mean(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    return x.to(torch.float64).mean(axes, keepdim=keep).to(x.dtype)


def _log_sum_exp(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    kind = x.dtype if x.is_floating_point() else torch.float64
    return torch.logsumexp(x.to(kind), axes, keepdim=keep).to(x.dtype)


def _l2(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    kind = x.dtype if x.is_floating_point() else torch.float64
    norm: Tensor = torch.linalg.vector_norm(x.to(kind), 2, axes, keepdim=keep)
    return norm.to(x.dtype)


def _same(x: Tensor) -> Tensor:
    return x


def _file(name: str, since: Ints, attribute_since: Ints, maps: tuple[Reduction, Map]) -> None:
    """File both forms of a reduction; `maps` also says what it does over no axis at all."""
    reduction, single = maps

    def reduce(
        data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        if not axes and noop_with_empty_axes:
            return single(data)
        over = tuple(a % data.dim() for a in axes) if axes else tuple(range(data.dim()))
        return reduction(data, over, bool(keepdims)) if over else single(data)

    def reduce_by_attribute(data: Tensor, *, axes: Ints | None = None, keepdims: int = 1) -> Tensor:
        return reduce(data, axes, keepdims=keepdims)

    reduce.__name__ = reduce.__qualname__ = name.lower()
    operator(name, *since)(reduce)
    operator(name, *attribute_since)(reduce_by_attribute)


def _log_sum(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep).log().to(x.dtype)


def _l1(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    return _typed_sum(x.abs(), axes, keep)


def _sum_square(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    return _typed_sum(x.square(), axes, keep)


_OLD = (1, 11, 13)
_file("ReduceSum", (13,), (1, 11), (_typed_sum, _same))
_file("ReduceMean", (18,), _OLD, (_mean, _same))
_file("ReduceMax", (18, 20), (1, 11, 12, 13), (_extreme(torch.amax, _lowest), _same))
_file("ReduceMin", (18, 20), (1, 11, 12, 13), (_extreme(torch.amin, _highest), _same))
_file("ReduceProd", (18,), _OLD, (_product, _same))
_file("ReduceL1", (18,), _OLD, (_l1, torch.abs))
_file("ReduceL2", (18,), _OLD, (_l2, torch.abs))
_file("ReduceLogSum", (18, 28), _OLD, (_log_sum, torch.log))
_file("ReduceLogSumExp", (18, 28), _OLD, (_log_sum_exp, _same))
_file("ReduceSumSquare", (18,), _OLD, (_sum_square, torch.square))


def _arg(name: str, function: Callable[..., Tensor]) -> None:
    def arg(
        data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
    ) -> Tensor:
        if not select_last_index:
            return function(data, axis, keepdim=bool(keepdims))
        backwards = function(data.flip(axis), axis, keepdim=bool(keepdims))
        return data.shape[axis] - 1 - backwards

    def arg_first(data: Tensor, *, axis: int = 0, keepdims: int = 1) -> Tensor:
        return arg(data, axis=axis, keepdims=keepdims)

    operator(name, 12, 13)(arg)
    operator(name, 1, 11)(arg_first)


_arg("ArgMax", torch.argmax)
_arg("ArgMin", torch.argmin)
