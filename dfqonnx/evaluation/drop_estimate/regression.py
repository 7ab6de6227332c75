"""From noise to drop: a regression of three coefficients, and its error on networks left out.

    x = e^a ratio^b certainty^c         ratio and certainty as in `noise_ratio`
    drop = A (1 - e^(-x / A))           points; A = 75, what a network has to lose

The same noise costs an uncertain network more (c < 0): its certainty on the fixed images tells how
far its classes stand apart. Coefficients and errors are those of y = asinh(drop / 0.5), see
`saturating_loss`.

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

from dfqonnx.evaluation.drop_estimate.calibration_set import KnownStudent, read_known_students
from dfqonnx.evaluation.drop_estimate.saturating_loss import (
    LEAST,
    Floats,
    conformal_half_width,
    fit_least_squares,
    from_scale,
    leave_out_networks,
    predict_scaled,
    rank_correlation,
    to_scale,
)

Basis = Literal["fixed", "real"]
MOST = 75.0  # points: what there is to lose
START = (4.0, 1.0, -1.0)


@dataclass(frozen=True)
class DropRegression:
    """Fitted coefficients a, b, c, and the half width of the interval on the asinh scale."""

    coefficients: tuple[float, float, float]
    half_width: float

    def predict(self, ratio: float, certainty: float) -> tuple[float, float, float]:
        """Return the drop in points and the ends of its interval."""
        rows = _rows([(ratio, certainty)])
        y = float(predict_scaled(np.array(self.coefficients), rows, MOST)[0])
        reach = self.half_width
        return from_scale(y), from_scale(y - reach), from_scale(y + reach)


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
    for rest, own in leave_out_networks(students):
        rows = _rows(predictors(known, basis) for known in own)
        found = predict_scaled(_solve(rest, basis), rows, MOST)
        errors += np.abs(_drops(own) - found).tolist()
    a, b, c = (float(value) for value in _solve(students, basis))
    return DropRegression((a, b, c), conformal_half_width(errors))


def predict_held_out(
    students: Sequence[KnownStudent], basis: Basis
) -> tuple[HeldOutPrediction, ...]:
    """Predict every student by the regression of the other networks."""
    return tuple(
        HeldOutPrediction(known, *regression.predict(*predictors(known, basis)))
        for regression, own in (
            (fit_regression(rest, basis), own) for rest, own in leave_out_networks(students)
        )
        for known in own
    )


def cross_validate(found: Sequence[HeldOutPrediction]) -> CrossValidation:
    """Summarize the predictions of students that were left out."""
    values, drops = [t.value for t in found], [t.student.drop for t in found]
    rank = rank_correlation(values, drops)
    networks = {t.student.network for t in found}
    inside = sum(t.inside for t in found) / len(found)
    return CrossValidation(len(found), len(networks), rank, inside)


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


def _drops(students: Sequence[KnownStudent]) -> Floats:
    return to_scale([known.drop for known in students])


def _rows(pairs: Iterable[tuple[float, float]]) -> Floats:
    """Return (S, 3): 1, log ratio, log certainty."""
    return np.array([(1.0, math.log(max(r, LEAST)), math.log(c)) for r, c in pairs])


def _solve(students: Sequence[KnownStudent], basis: Basis) -> Floats:
    """Return the coefficients of the least squares."""
    rows = _rows(predictors(known, basis) for known in students)
    return fit_least_squares(rows, _drops(students), most=MOST, start=START)
