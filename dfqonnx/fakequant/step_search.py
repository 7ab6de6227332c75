"""Initial steps: a grid search over clipping ratios.

    s* = argmin_s  mean |v - s clip(round(v / s), qn, qp)|^p,    p = 2.4

over s = r max|v| / q, r on a grid. An exponent above 2 punishes a clipped outlier more than
rounding noise; 2.4 is the value of layer-wise L_p searches (Nahshan et al., "Loss
Aware Post-training Quantization", 2021).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dfqonnx.core.quantization import IntegerRange

NORM = 2.4
SMALLEST = 1e-8


def _ratios(lowest: float, count: int) -> list[float]:
    return [lowest + (1.0 - lowest) * k / (count - 1) for k in range(count)]


def _error(values: Tensor, step: Tensor, limits: tuple[int, int], norm: float) -> Tensor:
    """Return |v - v'|^p elementwise."""
    back = (values / step).round_().clamp_(*limits).mul_(step)
    return back.sub_(values).square_().pow_(norm / 2)


@torch.no_grad()
def search_weight_scales(
    weight: Tensor, grid: IntegerRange, axis: int, *, norm: float = NORM, count: int = 81
) -> Tensor:
    """Return the best step of every output channel.

    Args:
        weight: any rank, channels on `axis`.
        grid: codes below and above 0.
        axis: channel axis.
        norm: exponent p.
        count: ratios tried, from 0.2 to 1.

    Returns:
        (O,) steps, never below a tiny positive one.
    """
    rows = weight.movedim(axis, 0).reshape(weight.shape[axis], -1)  # (O, M)
    low, high = grid.limits
    widest = (rows.amax(1) / high).maximum(rows.amin(1) / low)  # (O,)
    widest = widest.clamp_min(SMALLEST)
    best, steps = torch.full_like(widest, torch.inf), widest.clone()
    for ratio in _ratios(0.2, count):
        step = widest * ratio
        error = _error(rows, step[:, None], grid.limits, norm).mean(1)  # (O,)
        better = error < best
        best, steps = torch.where(better, error, best), torch.where(better, step, steps)
    return steps


@torch.no_grad()
def search_activation_scale(
    samples: Tensor,
    grid: Callable[[float], IntegerRange],
    *,
    largest: float | None = None,
    norm: float = NORM,
    count: int = 81,
) -> float:
    """Return the best step of one activation.

    Args:
        samples: values seen there, any shape.
        grid: the codes allowed at a step (a ceiling makes them depend on it).
        largest: largest magnitude to start from; that of the samples when None.
        norm: exponent p.
        count: ratios tried, from 0.05 to 1.
    """
    values = samples.reshape(-1)
    values = values[values != 0]  # zero costs nothing at any step
    if values.numel() == 0:
        return 1.0
    low, high = grid(SMALLEST).limits
    widest = max(float(values.max()) / high, float(values.min()) / low if low else 0.0)
    if largest is not None:
        widest = max(widest, largest / max(high, -low))
    if widest <= SMALLEST:
        return SMALLEST
    best, chosen = torch.inf, widest
    for ratio in _ratios(0.05, count):
        step = torch.tensor(widest * ratio, device=values.device)
        error = float(_error(values, step, grid(float(step)).limits, norm).mean())
        if error < best:
            best, chosen = error, float(step)
    return chosen


def sample(value: Tensor, count: int = 16384) -> Tensor:
    """Return about `count` values spread evenly over a tensor, its extremes included."""
    flat = value.detach().reshape(-1)
    stride = max(1, flat.numel() // count) | 1  # odd: never in step with power-of-two shapes
    return torch.cat([flat[::stride], flat.max()[None], flat.min()[None]])
