"""Initial scales: a grid search over clipping ratios.

    s* = argmin_s  sum_i h_i |v_i - s clip(round(v_i / s), qn, qp)|^p

over s = r max|v| / q, with r on a grid: linear for weights; for activations, where inputs of very
different ranges may count, of eight steps an octave and then finer around the best. p = 2.4 and
h = 1 unless stated (`observed_values` weighs activations): an exponent above 2
punishes a clipped outlier more than rounding noise, and 2.4 is the value of layer-wise L_p searches
(Nahshan et al., "Loss Aware Post-training Quantization", 2021). GPTQ searches with p = 2 and the
diagonal of its Hessian for h.

Scales that are to be powers of two are sought among the four that reach from all values down to an
eighth of them.

Where the code of real 0 is free, both ends of the range are searched: first together, then each
alone, with the other one where it was best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from dfqonnx.core.quantization import SMALLEST_SCALE, IntegerRange, fake_quantize, whole_exponents
from dfqonnx.fakequant.observed_values import NORM, WeightedValues

COARSE = tuple(2.0 ** (-k / 8) for k in range(49))  # clipping ratios of activations
FINE = tuple(2.0 ** (k / 64) for k in range(-7, 8))  # times the best of them
_POWERS = (1.0, 0.5, 0.25, 0.125)
_SMALLEST_POWER = 2.0**-26
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
    power_of_two: bool = False,
) -> Tensor:
    """Return the best scale of every row of (..., M), (..., 1), never below a tiny positive one.

    `count` clipping ratios from `lowest` to 1 are tried, or powers of two. `norm` is p;
    `importance` is h, broadcast against `rows`, and None weighs all values alike.
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

    ratios = _ratios(lowest, count)
    if power_of_two:
        widest, ratios = next_power_of_two(widest), list(_POWERS)
    return _best(widest, (widest * ratio for ratio in ratios), error)


def next_power_of_two(scale: Tensor) -> Tensor:
    """Return the least powers of two that are not below positive scales."""
    least = torch.exp2(whole_exponents(torch.log2(scale)))
    return torch.where(least < scale, 2 * least, least)


def search_weight_scales(
    weight: Tensor,
    grid: IntegerRange,
    axis: int,
    *,
    count: int = 81,
    per_channel: bool = True,
    power_of_two: bool = False,
) -> Tensor:
    """Return the best scale of every channel of a weight of any rank, (O,), or of all, (1,)."""
    rows = weight.movedim(axis, 0).reshape(weight.shape[axis] if per_channel else 1, -1)  # (O, M)
    return search_row_scales(rows, grid.limits, count=count, power_of_two=power_of_two)[:, 0]


class _Ends(NamedTuple):
    """The ends of a range that move together."""

    low: bool
    high: bool


_ENDS = (_Ends(low=True, high=True), _Ends(low=True, high=False), _Ends(low=False, high=True))
SEARCHED = 2**15  # values that a range is searched with


@torch.no_grad()
def search_activation_range(seen: WeightedValues, grid: IntegerRange) -> tuple[float, IntegerRange]:
    """Return the best scale of one activation and `grid` with the best code for real 0.

    Both ends of the range that the values span are moved inwards.
    """
    seen = _searched(seen)
    values = seen.values
    if values.numel() == 0:
        return 1.0, grid
    best = (math.inf, min(float(values.min()), 0.0), max(float(values.max()), 0.0))
    widest = best[1:]
    for moved, ratios in (*((ends, COARSE) for ends in _ENDS), *((ends, FINE) for ends in _ENDS)):
        _, low, high = best
        for ratio in ratios:
            ends = low * (ratio if moved.low else 1.0), high * (ratio if moved.high else 1.0)
            ends = max(ends[0], widest[0]), min(ends[1], widest[1])
            scale, found = grid.spanning(*ends)
            error = _error(values, values.new_tensor(scale), found.limits, NORM)
            best = min(best, (float((error * seen.weights).sum()), *ends))
    return grid.spanning(*best[1:])


@torch.no_grad()
def search_activation_scale(
    seen: WeightedValues, grid: Callable[[float], IntegerRange], *, power_of_two: bool = False
) -> float:
    """Return the best scale of one activation, from values seen there.

    `grid` gives the codes allowed at a scale: a fused Clip makes them depend on it.
    """
    seen = _searched(seen)
    values = seen.values
    if values.numel() == 0:
        return 1.0
    low, high = grid(SMALLEST_SCALE).limits
    widest = max(float(values.max()) / high, float(values.min()) / low if low else 0.0)
    if widest <= SMALLEST_SCALE:
        return _SMALLEST_POWER if power_of_two else SMALLEST_SCALE

    def error(scale: Tensor) -> Tensor:
        found = _error(values, scale, grid(float(scale)).limits, NORM)
        return (found * seen.weights).sum()

    top = values.new_tensor(widest)
    if power_of_two:
        top = next_power_of_two(top)
        return float(_best(top, (top * ratio for ratio in _POWERS), error))
    best = _best(top, (top * ratio for ratio in COARSE), error)
    return float(_best(top, ((best * ratio).clamp_max(widest) for ratio in FINE), error))


@torch.no_grad()
def search_unit_steps(seen: WeightedValues, grid: IntegerRange, unit: float) -> int:
    """Return the best k of scales unit / k at which the smallest code of `grid` is that of -unit.

    `seen` are values of one activation, none of them below -unit.
    """
    seen = _searched(seen)
    values, most = seen.values, grid.hi - grid.lo - 1
    if values.numel() == 0:
        return (most + 1) // 2

    def error(steps: int) -> float:
        limits = -steps, grid.hi - grid.lo - steps
        found = _error(values, values.new_tensor(unit / steps), limits, NORM)
        return float((found * seen.weights).sum())

    coarse = sorted({max(1, round(most * ratio)) for ratio in COARSE})
    best = min(coarse, key=error)
    at = coarse.index(best)
    near = range(coarse[max(0, at - 1)], coarse[min(len(coarse) - 1, at + 1)] + 1)
    return min(near, key=error)


def _searched(seen: WeightedValues) -> WeightedValues:
    """Return at most `SEARCHED` values and both extremes; zero costs nothing at any scale."""
    kept = seen.values.nonzero()[:, 0]
    if len(kept) > SEARCHED:
        found = seen.values[kept]
        ends = kept[torch.stack([found.argmax(), found.argmin()])]
        kept = torch.cat([kept[:: len(kept) // SEARCHED | 1], ends])
    return WeightedValues(seen.values[kept], seen.weights[kept])
