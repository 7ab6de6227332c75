"""From noise to drop: a regression of three coefficients, and its error on networks left out.

    x = e^a ratio^b certainty^c         ratio and certainty as in `noise_ratio`
    drop = A (1 - e^(-x / A))           points; A = 75, what a network has to lose

The same noise costs an uncertain network more (c < 0): its certainty on the fixed images tells how
far its classes stand apart. Coefficients and errors are those of y = asinh(drop / 0.5), which is
straight near zero, where the drop of a good student scatters by some tenths of a point to either
side, and logarithmic above, where errors are factors.

The interval is y +- half width. Every network in turn is left out, the regression is fitted to the
others, and the errors on its students are collected; of n errors the half width is the
ceil(0.9 (n + 1))-th smallest. This is conformal prediction with whole networks left out, because
the errors of students of one network are alike (Vovk, Gammerman and Shafer, "Algorithmic Learning
in a Random World", 2005; Barber et al., "Predictive inference with the jackknife+", 2021): nine of
ten drops of a further network lie inside as far as that network is like these.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.drop_estimate.calibration_set import KnownStudent, read_known_students

Basis = Literal["fixed", "real"]
Floats = NDArray[np.float64]
UNIT = 0.5  # points: below it the scale is straight
COVERAGE = 0.9
LEAST = 1e-5  # of a ratio
MOST = 75.0  # points: what there is to lose
START = (4.0, 1.0, -1.0)
MOST_STEPS = 200  # some ten are taken


@dataclass(frozen=True)
class DropRegression:
    """Fitted coefficients a, b, c, and the half width of the interval on the asinh scale."""

    coefficients: tuple[float, float, float]
    half_width: float

    def predict(self, ratio: float, certainty: float) -> tuple[float, float, float]:
        """Return the drop in points and the ends of its interval."""
        y = float(_scaled(np.array(self.coefficients), _rows([(ratio, certainty)]))[0])
        ends = (UNIT * math.sinh(end) for end in (y, y - self.half_width, y + self.half_width))
        value, low, high = (min(100.0, max(-100.0, end)) for end in ends)
        return value, low, high


@dataclass(frozen=True)
class HeldOutPrediction:
    """A student of a network that was left out: the prediction and its interval."""

    student: KnownStudent
    value: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the true drop lies in the interval."""
        return self.low <= self.student.drop <= self.high


@dataclass(frozen=True)
class CrossValidation:
    """How good the predictions are for networks left out."""

    students: int  # how many
    networks: int  # how many they come from
    rank_correlation: float  # Spearman's, of predicted and true drops
    coverage: float  # the share of true drops in their 90 % interval


def fit_regression(students: Sequence[KnownStudent], basis: Basis) -> DropRegression:
    """Return the regression of `students`, its half width from networks left out one by one."""
    errors: list[float] = []
    for rest, own in _left_out(students):
        found = _scaled(_solve(rest, basis), _rows(predictors(known, basis) for known in own))
        errors += np.abs(_drops(own) - found).tolist()
    place = min(len(errors), math.ceil(COVERAGE * (len(errors) + 1)))
    a, b, c = (float(value) for value in _solve(students, basis))
    return DropRegression((a, b, c), sorted(errors)[place - 1])


def predict_held_out(
    students: Sequence[KnownStudent], basis: Basis
) -> tuple[HeldOutPrediction, ...]:
    """Predict every student by the regression of the other networks."""
    return tuple(
        HeldOutPrediction(known, *regression.predict(*predictors(known, basis)))
        for regression, own in (
            (fit_regression(rest, basis), own) for rest, own in _left_out(students)
        )
        for known in own
    )


def cross_validate(found: Sequence[HeldOutPrediction]) -> CrossValidation:
    """Summarize the predictions of students that were left out."""
    values, drops = [t.value for t in found], [t.student.drop for t in found]
    rank = np.corrcoef(_ranks(values), _ranks(drops))[0, 1]
    networks = {t.student.network for t in found}
    inside = sum(t.inside for t in found) / len(found)
    return CrossValidation(len(found), len(networks), float(rank), inside)


def _ranks(values: Sequence[float]) -> Floats:
    """Return the rank of every value, the mean of their ranks for equal ones."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places], np.float64)


def predictors(known: KnownStudent, basis: Basis) -> tuple[float, float]:
    """Return ratio and certainty of a known student."""
    return known.fixed if basis == "fixed" else known.real, known.certainty


@cache
def shipped_regression(basis: Basis) -> DropRegression:
    """Return the regression of all known students."""
    return fit_regression(read_known_students(), basis)


@cache
def shipped_predictions(basis: Basis) -> tuple[HeldOutPrediction, ...]:
    """Return all known students, each as if its network were new."""
    return predict_held_out(read_known_students(), basis)


def _left_out(
    students: Sequence[KnownStudent],
) -> list[tuple[list[KnownStudent], list[KnownStudent]]]:
    """Return the students of the others and its own, for every network."""
    networks = sorted({known.network for known in students})
    return [
        (
            [known for known in students if known.network != network],
            [known for known in students if known.network == network],
        )
        for network in networks
    ]


def _drops(students: Sequence[KnownStudent]) -> Floats:
    return np.arcsinh(np.array([known.drop for known in students]) / UNIT)


def _rows(pairs: Iterable[tuple[float, float]]) -> Floats:
    """Return (S, 3): 1, log ratio, log certainty."""
    return np.array([(1.0, math.log(max(r, LEAST)), math.log(c)) for r, c in pairs])


def _scaled(coefficients: Floats, rows: Floats) -> Floats:
    """Return asinh(drop / 0.5) for every row."""
    drop = MOST * -np.expm1(-np.exp((rows @ coefficients).clip(-20, 9)) / MOST)
    return np.asarray(np.arcsinh(drop / UNIT))


def _solve(students: Sequence[KnownStudent], basis: Basis) -> Floats:
    """Return the coefficients of the least squares, by steps of Levenberg and Marquardt.

    Each solves (J^T J + d diag(J^T J)) s = -J^T r; d is divided by 10 where it helped, else
    multiplied, until no step of a part in 10^10 helps.
    """
    rows, drops = _rows(predictors(known, basis) for known in students), _drops(students)
    found, damping = np.array(START), 1e-3
    errors = _scaled(found, rows) - drops
    for _ in range(MOST_STEPS):
        slopes = _slopes(found, rows)
        normal = slopes.T @ slopes
        step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), slopes.T @ errors)
        if np.abs(step).max() <= 1e-10 * np.abs(found).max():
            break
        tried = _scaled(found + step, rows) - drops
        helped = bool(np.square(tried).sum() < np.square(errors).sum())
        if helped:
            found, errors = found + step, tried
        damping *= 0.1 if helped else 10.0
    return found


def _slopes(coefficients: Floats, rows: Floats) -> Floats:
    """Return the derivatives (S, 3) of `_scaled` by the coefficients.

    d asinh(drop / U) = d drop / sqrt(drop^2 + U^2), d drop = e^(-x / A) dx, dx = x row.
    """
    x = np.exp((rows @ coefficients).clip(-20, 9))
    drop = -MOST * np.expm1(-x / MOST)
    return np.asarray(rows * (x * np.exp(-x / MOST) / np.hypot(drop, UNIT))[:, None])
