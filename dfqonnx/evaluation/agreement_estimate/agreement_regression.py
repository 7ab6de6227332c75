"""From noise to agreement: one number for all networks, and its error on networks left out.

    x = e^a sqrt(noise) doubt           noise: `drop_estimate/noise_ratio`, on the fixed images;
                                        doubt = 1 - mean of the largest probability there
    loss = A (1 - e^(-x / A))           points of real inputs with another class;
                                        A = 100 (1 - 1 / K): what K classes by chance have
    agreement = 1 - loss / 100

Noise of an amplitude moves as many inputs over a border as stand within that distance of it: to
first order amplitude times their density there, which is what the float model's doubt measures. How
much farther from the borders real inputs stand than the fixed images is the number a, and how much
that differs from network to network is what the interval is for. The share of equal classes on the
fixed images itself misleads more.

Fit, scale and interval are those of the estimated drop: least squares of asinh(loss / 0.5), of a
loss of m of n inputs taken as (m + 1/2) / (n + 1), and a half width that nine of ten errors have
on networks left out one by one (`drop_estimate/saturating_loss`, `drop_estimate/regression`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from dfqonnx.evaluation.agreement_estimate.known_agreements import (
    KnownAgreement,
    read_known_agreements,
)
from dfqonnx.evaluation.drop_estimate.regression import CrossValidation
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

START = (4.0,)


@dataclass(frozen=True)
class AgreementRegression:
    """The fitted a, and the half width of the interval on the asinh scale."""

    level: float
    half_width: float

    def predict(self, noise: float, doubt: float, classes: int) -> tuple[float, float, float]:
        """Return the agreement, 0..1, and the ends of its interval."""
        offset = expected_log_loss(noise, doubt)
        rows, most = np.ones((1, 1)), _most_lost(classes)
        y = float(predict_scaled(np.array([self.level]), rows, most, offset)[0])
        reach = self.half_width
        value, high, low = (
            1 - max(0.0, from_scale(end)) / 100 for end in (y, y - reach, y + reach)
        )
        return value, low, high


@dataclass(frozen=True)
class HeldOutAgreement:
    """A student of a network that was left out: the agreement told and its interval, 0..1."""

    student: KnownAgreement
    value: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the true agreement lies in the interval."""
        return self.low <= self.student.agreement <= self.high


def fit_agreement(students: Sequence[KnownAgreement]) -> AgreementRegression:
    """Return the regression of `students`, its half width from networks left out one by one."""
    errors: list[float] = []
    for rest, own in leave_out_networks(students):
        found = predict_scaled(_solve(rest), np.ones((len(own), 1)), _most_of(own), _offsets(own))
        errors += np.abs(_losses(own) - found).tolist()
    return AgreementRegression(float(_solve(students)[0]), conformal_half_width(errors))


def predict_agreements(students: Sequence[KnownAgreement]) -> tuple[HeldOutAgreement, ...]:
    """Predict every student by the regression of the other networks."""
    return tuple(
        HeldOutAgreement(known, *regression.predict(known.noise, known.doubt, known.classes))
        for regression, own in (
            (fit_agreement(rest), own) for rest, own in leave_out_networks(students)
        )
        for known in own
    )


def cross_validate_agreement(found: Sequence[HeldOutAgreement]) -> CrossValidation:
    """Summarize the predictions of students that were left out."""
    rank = rank_correlation([t.value for t in found], [t.student.agreement for t in found])
    networks = {t.student.network for t in found}
    return CrossValidation(
        len(found), len(networks), rank, sum(t.inside for t in found) / len(found)
    )


@cache
def shipped_agreement_regression() -> AgreementRegression:
    """Return the regression of all known students."""
    return fit_agreement(read_known_agreements())


@cache
def shipped_agreements() -> tuple[HeldOutAgreement, ...]:
    """Return all known students, each as if its network were new."""
    return predict_agreements(read_known_agreements())


def expected_log_loss(noise: float, doubt: float) -> float:
    """Return log(sqrt(noise) doubt)."""
    return 0.5 * math.log(max(noise, LEAST)) + math.log(doubt)


def _offsets(students: Sequence[KnownAgreement]) -> Floats:
    return np.array([expected_log_loss(known.noise, known.doubt) for known in students])


def _most_lost(classes: int) -> float:
    return 100 * (1 - 1 / classes)


def _most_of(students: Sequence[KnownAgreement]) -> Floats:
    return np.array([_most_lost(known.classes) for known in students])


def _losses(students: Sequence[KnownAgreement]) -> Floats:
    misses = ((known.images * (1 - known.agreement), known.images) for known in students)
    return to_scale([100 * (missed + 0.5) / (images + 1) for missed, images in misses])


def _solve(students: Sequence[KnownAgreement]) -> Floats:
    rows = np.ones((len(students), 1))
    return fit_least_squares(
        rows, _losses(students), most=_most_of(students), start=START, offset=_offsets(students)
    )
