"""Initial scales: a grid search over clipping ratios.

    s* = argmin_s  sum_i h_i |v_i - s clip(round(v_i / s), qn, qp)|^p

over s = r max|v| / q, with r on a grid. p = 2.4 and h = 1 unless stated: an exponent above 2
punishes a clipped outlier more than rounding noise, and 2.4 is the value of layer-wise L_p searches
(Nahshan et al., "Loss Aware Post-training Quantization", 2021). GPTQ searches with p = 2 and the
diagonal of its Hessian for h.

Where the code of real 0 is free, both ends of the range are searched: first together, then each
alone, with the other one where it was best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from dfqonnx.core.quantization import SMALLEST_SCALE, IntegerRange, fake_quantize

NORM = 2.4
Limits = tuple[int, int]  # qn and qp: the smallest and the largest code, from the zero point


def _ratios(lowest: float, count: int) -> list[float]:
    return [lowest + (1.0 - lowest) * k / (count - 1) for k in range(count)]


def _error(values: Tensor, scale: Tensor, limits: Limits, norm: float) -> Tensor:
    """Return |v - v'|^p elementwise."""
    squares = fake_quantize(values, scale, limits).sub_(values).square_()
    return squares if norm == 2.0 else squares.pow_(norm / 2)


def _best(widest: Tensor, scales: Iterable[Tensor], error: Callable[[Tensor], Tensor]) -> Tensor:
    """Return, elementwise, the first of `scales` with the least error; `widest` if none has one."""
    least, best = torch.full_like(widest, torch.inf), widest
    for scale in scales:
        found = error(scale)
        better = found < least
        least, best = torch.where(better, found, least), torch.where(better, scale, best)
    return best


@torch.no_grad()
def search_row_scales(
    rows: Tensor,
    limits: Limits,
    *,
    norm: float = NORM,
    lowest: float = 0.2,
    count: int = 81,
    importance: Tensor | None = None,
) -> Tensor:
    """Return the best scale of every row of (..., M), (..., 1), never below a tiny positive one.

    `count` clipping ratios from `lowest` to 1 are tried. `norm` is p; `importance` is h, broadcast
    against `rows`, and None weighs all values alike.
    """
    widest = (rows.amax(-1, keepdim=True) / limits[1]).maximum(
        rows.amin(-1, keepdim=True) / limits[0]
    )
    widest = widest.clamp_min(SMALLEST_SCALE)

    def error(scale: Tensor) -> Tensor:
        each = _error(rows, scale, limits, norm)
        if importance is None:
            return each.mean(-1, keepdim=True)
        return (each * importance).sum(-1, keepdim=True)

    return _best(widest, (widest * ratio for ratio in _ratios(lowest, count)), error)


def search_weight_scales(
    weight: Tensor, grid: IntegerRange, axis: int, *, count: int = 81
) -> Tensor:
    """Return the best scale of every channel of a weight of any rank, (O,)."""
    rows = weight.movedim(axis, 0).reshape(weight.shape[axis], -1)  # (O, M)
    return search_row_scales(rows, grid.limits, count=count)[:, 0]


class _Ends(NamedTuple):
    """The ends of a range that move together."""

    low: bool
    high: bool
    ratios: int  # tried


_ENDS = (_Ends(True, True, 81), _Ends(True, False, 39), _Ends(False, True, 39))
SEARCHED = 2**15  # values that a range is searched with


@torch.no_grad()
def search_activation_range(samples: Tensor, grid: IntegerRange) -> tuple[float, IntegerRange]:
    """Return the best scale of one activation and `grid` with the best code for real 0.

    `samples` are values seen there; both ends of the range that they span are moved inwards.
    """
    values = samples.reshape(-1)
    values = values[values != 0]  # zero costs nothing at any scale
    values = sample_values(values, SEARCHED) if values.numel() > SEARCHED else values
    if values.numel() == 0:
        return 1.0, grid
    best = (math.inf, min(float(values.min()), 0.0), max(float(values.max()), 0.0))
    for moved in _ENDS:
        _, low, high = best
        for ratio in _ratios(0.05, moved.ratios):
            ends = low * (ratio if moved.low else 1.0), high * (ratio if moved.high else 1.0)
            scale, found = grid.spanning(*ends)
            error = _error(values, values.new_tensor(scale), found.limits, NORM).mean()
            best = min(best, (float(error), *ends))
    return grid.spanning(*best[1:])


@torch.no_grad()
def search_activation_scale(samples: Tensor, grid: Callable[[float], IntegerRange]) -> float:
    """Return the best scale of one activation, from values seen there.

    `grid` gives the codes allowed at a scale: a fused Clip makes them depend on it.
    """
    values = samples.reshape(-1)
    values = values[values != 0]  # zero costs nothing at any scale
    if values.numel() == 0:
        return 1.0
    low, high = grid(SMALLEST_SCALE).limits
    widest = max(float(values.max()) / high, float(values.min()) / low if low else 0.0)
    if widest <= SMALLEST_SCALE:
        return SMALLEST_SCALE

    def error(scale: Tensor) -> Tensor:
        return _error(values, scale, grid(float(scale)).limits, NORM).mean()

    scales = [values.new_tensor(widest * ratio) for ratio in _ratios(0.05, 81)]
    return float(_best(scales[-1], scales, error))


def sample_values(value: Tensor, count: int = 16384) -> Tensor:
    """Return about `count` values spread evenly over a tensor, its extremes included."""
    flat = value.detach().reshape(-1)
    stride = max(1, flat.numel() // count) | 1  # odd: never in step with power-of-two shapes
    return torch.cat([flat[::stride], flat.max()[None], flat.min()[None]])
