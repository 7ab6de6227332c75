"""Intervals of any figure of N inputs: the bootstrap.

The inputs are drawn anew with replacement, N of them, `DRAWS` times; draw r has input i w[r, i]
times, and the figure of every draw is a sample of how it scatters. The 95 % interval lies between
the quantiles Phi(2 b - t) and Phi(2 b + t) of these samples, with

    b = Phi^-1(share of draws below the figure)           corrects bias: of few images, for
                                                           instance, average precision is too high
    t = sqrt(N / (N - 1)) Student's t_{N - 1}(0.975)      widens what few inputs make too narrow

Draws in which the figure is not defined do not count. Where every draw gives the same, or N is less
than `FEW`, the scatter of what N inputs do not show is unknown: a share in 0 to 1 then reaches at
least as far as Wilson's interval (the widest that a mean of N such numbers can have), a difference
of shares as far as Bonett and Price's without any disagreement; any other figure of equal draws has
no scatter, and none of a single input has an interval. N counts the inputs that say something: the
images with a true box.

Sources: Efron, Better bootstrap confidence intervals (1987), with acceleration 0; Hesterberg, What
teachers should know about the bootstrap (2015). The draws are the same for equal N, so figures of
two networks on the same inputs can be paired, and reports can be repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.statistics import Interval, paired_drop, student_quantile, wilson_bounds

Floats = NDArray[Any]
WeightedFigure = Callable[[Floats], Floats]  # draws (R, N) -> the figure of each (R,), NaN: none
Scale = Literal["share", "difference of shares", "any"]
DRAWS = 1000
LEAST_DEFINED = 0.5  # of the draws
FEW = 10  # inputs: a bootstrap of fewer is not trusted alone
_SEED = 20_011
_NUMBERS = 2**20  # of a part of the draws


def draw_inputs(n: int) -> Iterator[Floats]:
    """Yield how often each of `n` inputs is drawn, in parts (R, n) of `DRAWS` rows together."""
    rng = np.random.default_rng((_SEED, n))
    rows = max(1, min(DRAWS, _NUMBERS // n))
    for start in range(0, DRAWS, rows):
        count = min(rows, DRAWS - start)
        places = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(places.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)


def redraw(n: int, *figures: WeightedFigure) -> tuple[Floats, ...]:
    """Return the samples (`DRAWS`,) of every figure, all from the same draws of `n` inputs."""
    parts = [tuple(figure(weights) for figure in figures) for weights in draw_inputs(n)]
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def weighted_mean(values: Floats) -> WeightedFigure:
    """Return the mean of one value (N,) for every input as a figure of the inputs."""
    return lambda weights: np.asarray(weights @ values / weights.sum(1))


def interval_of_draws(
    draws: Floats, value: float | None, n: int, scale: Scale = "any"
) -> Interval | None:
    """Return the interval of a figure `value` of `n` inputs from its samples (R,).

    None where the figure is not known, where most draws do not define it, or of one input, if the
    figure is no share.
    """
    known = draws[np.isfinite(draws)]
    if value is None or n < 1 or len(known) < LEAST_DEFINED * len(draws):
        return None
    unseen = _interval_without_scatter(value, n, scale)
    if n < 2 or np.ptp(known) <= 1e-12 * max(1.0, abs(value)):
        return None if n < 2 and scale == "any" else unseen
    slack = 1e-12 * max(1.0, abs(value))  # a draw of all inputs may differ by rounding
    equal = np.abs(known - value) <= slack
    below = float(((known < value) & ~equal).mean() + equal.mean() / 2)
    edge = 0.5 / len(known)
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, edge), 1 - edge))
    reach = math.sqrt(n / (n - 1)) * student_quantile(0.95, n - 1)
    low, high = np.quantile(known, [normal.cdf(2 * bias - reach), normal.cdf(2 * bias + reach)])
    ends = (float(low), float(high), value, *((unseen.low, unseen.high) if n < FEW else ()))
    return Interval(value, min(ends), max(ends), n)


def _interval_without_scatter(value: float, n: int, scale: Scale) -> Interval:
    if scale == "difference of shares":
        points = paired_drop(0, 0, n).points
        return Interval(value, value + points.low / 100, value + points.high / 100, n)
    if scale == "share" and 0 <= value <= 1:
        low, high = wilson_bounds(value, n)
        return Interval(value, low, high, n)
    return Interval(value, value, value, n)
