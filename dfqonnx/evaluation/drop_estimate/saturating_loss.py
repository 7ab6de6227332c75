"""A loss that grows with noise and saturates: coefficients c, fitted to S known students.

    x = e^(row c + offset)              row (S, C): 1 and logarithms of what is measured
    loss = A (1 - e^(-x / A))           points; A is what there is to lose
    y = asinh(loss / 0.5)               the scale of errors

The scale is straight near zero, where the loss of a good student scatters by some tenths of a point
to either side, and logarithmic above, where errors are factors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = float | Floats  # one for all students, or (S,)
UNIT = 0.5  # points: below it the scale is straight
COVERAGE = 0.9  # of an interval
LEAST = 1e-5  # of a ratio of noise to signal
MOST_STEPS = 200  # some ten are taken


class OfNetwork(Protocol):
    """What is known of one student of a network."""

    @property
    def network(self) -> str:
        """The network that it was made from."""


Known = TypeVar("Known", bound=OfNetwork)


def leave_out_networks(students: Sequence[Known]) -> list[tuple[list[Known], list[Known]]]:
    """Return the students of the others and its own, for every network."""
    networks = sorted({known.network for known in students})
    return [
        (
            [known for known in students if known.network != network],
            [known for known in students if known.network == network],
        )
        for network in networks
    ]


def conformal_half_width(errors: Sequence[float]) -> float:
    """Return the half width that `COVERAGE` of n errors have: the ceil(0.9 (n + 1))-th smallest."""
    place = min(len(errors), math.ceil(COVERAGE * (len(errors) + 1)))
    return sorted(errors)[place - 1]


def rank_correlation(told: Sequence[float], true: Sequence[float]) -> float:
    """Return Spearman's rank correlation, equal values with the mean of their ranks."""
    return float(np.corrcoef(_ranks(told), _ranks(true))[0, 1])


def _ranks(values: Sequence[float]) -> Floats:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places], np.float64)


def to_scale(points: Sequence[float]) -> Floats:
    """Return y of losses in points."""
    return np.arcsinh(np.array(points) / UNIT)


def from_scale(y: float) -> float:
    """Return the loss in points, at most 100 to either side."""
    return min(100.0, max(-100.0, UNIT * math.sinh(y)))


def predict_scaled(
    coefficients: Floats, rows: Floats, most: Numbers, offset: Numbers = 0.0
) -> Floats:
    """Return y (S,) for rows (S, C); `most` is A, one for all or (S,), as is `offset`."""
    loss = most * -np.expm1(-np.exp((rows @ coefficients + offset).clip(-20, 9)) / most)
    return np.asarray(np.arcsinh(loss / UNIT))


def fit_least_squares(
    rows: Floats, y: Floats, *, most: Numbers, start: Sequence[float], offset: Numbers = 0.0
) -> Floats:
    """Return the coefficients (C,) of the least squares of y, by steps of Levenberg and Marquardt.

    Each solves (J^T J + d diag(J^T J)) s = -J^T r; d is divided by 10 where it helped, else
    multiplied, until no step of a part in 10^10 helps.
    """
    found, damping = np.array(start), 1e-3
    errors = predict_scaled(found, rows, most, offset) - y
    for _ in range(MOST_STEPS):
        slopes = _slopes(found, rows, most, offset)
        normal = slopes.T @ slopes
        step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), slopes.T @ errors)
        if np.abs(step).max() <= 1e-10 * np.abs(found).max():
            break
        tried = predict_scaled(found + step, rows, most, offset) - y
        helped = bool(np.square(tried).sum() < np.square(errors).sum())
        if helped:
            found, errors = found + step, tried
        damping *= 0.1 if helped else 10.0
    return found


def _slopes(coefficients: Floats, rows: Floats, most: Numbers, offset: Numbers) -> Floats:
    """Return the derivatives (S, C) of `predict_scaled` by the coefficients.

    d asinh(loss / U) = d loss / sqrt(loss^2 + U^2), d loss = e^(-x / A) dx, dx = x row.
    """
    x = np.exp((rows @ coefficients + offset).clip(-20, 9))
    loss = -most * np.expm1(-x / most)
    return np.asarray(rows * (x * np.exp(-x / most) / np.hypot(loss, UNIT))[:, None])
