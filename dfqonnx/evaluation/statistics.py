"""Statistics of two networks on the same inputs, with their intervals.

Top-1 of one model: Wilson's interval (1927) for a share of h among n,

    (h + z^2 / 2 +- z sqrt(h (n - h) / n + z^2 / 4)) / (n + z^2)

The drop is paired: with b images that only the
teacher gets right and c that only the student gets right,

    drop = (b - c) / n

whose interval is Bonett and Price's (2012), a Wald interval with one image added to each kind of
disagreement, p = (b + 1) / (n + 2), q = (c + 1) / (n + 2):

    (p - q) +- z * sqrt((p + q - (p - q)^2) / (n + 2))

and whose p-value is McNemar's exact test, b out of b + c at one half. These are closed forms, so
that measuring needs no SciPy, which is twice as large as ONNX Runtime; tests compare with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Choices = NDArray[np.int64]  # the class that a model chooses for every input


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % bounds over `n` images."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Drop:
    """Teacher's top-1 minus the student's, in points."""

    points: Interval
    p_value: float  # McNemar's exact test of no difference
    only_teacher: int  # images that only the teacher gets right
    only_student: int  # images that only the student gets right


def wilson_bounds(share: float, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's bounds of a share of `n`, which need not be a whole number of them."""
    z = normal_quantile(confidence)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = max(0.0, middle - reach), min(1.0, middle + reach)
    return 0.0 if share <= 0 else low, 1.0 if share >= 1 else high  # without rounding


def wilson_interval(hits: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return `hits` out of `n` with Wilson's interval."""
    low, high = wilson_bounds(hits / n, n, confidence=confidence)
    return Interval(hits / n, low, high, n)


def normal_quantile(confidence: float) -> float:
    """Return how many standard deviations to either side hold a share of `confidence`."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


@cache
def student_quantile(confidence: float, freedom: int) -> float:
    """Return the t that P(|T| <= t) = `confidence` for Student's T of `freedom` degrees.

    With t = sqrt(freedom) tan(angle), found by halving, and c and s the angle's cosine and sine:

        P = s (1 + 1/2 c^2 + 1 3 / (2 4) c^4 + ...)                         freedom even
        P = 2/pi (angle + s (c + 2/3 c^3 + 2 4 / (3 5) c^5 + ...))          freedom odd

    both up to c^(freedom - 2). Source: Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    j = np.arange(1, (freedom - freedom % 2) // 2)
    shares = (2 * j - 1) / (2 * j) if freedom % 2 == 0 else 2 * j / (2 * j + 1)
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # what double precision holds
        angle = (low + high) / 2
        c, s = math.cos(angle), math.sin(angle)
        series = 1 + float(np.cumprod(shares * c * c).sum())
        within = s * series
        if freedom % 2:
            within = 2 / math.pi * (angle + (s * c * series if freedom > 1 else 0.0))
        low, high = (angle, high) if within < confidence else (low, angle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def sign_test(hits: int, n: int) -> float:
    """Return P(X >= hits) of n fair coins: the exact test, one-sided, of n at least 1."""
    first = math.lgamma(n + 1) - math.lgamma(hits + 1) - math.lgamma(n - hits + 1)
    k = np.arange(hits, n)
    ratios = np.concatenate([[0.0], np.log((n - k) / (k + 1))])  # of P(k + 1) to P(k)
    each = first - n * math.log(2) + np.cumsum(ratios)
    return min(1.0, float(np.exp(each).sum()))


def percent_interval(hits: int, n: int) -> Interval:
    """Return `hits` out of `n` with Wilson's interval, in percent."""
    found = wilson_interval(hits, n)
    return Interval(100 * found.value, 100 * found.low, 100 * found.high, found.n)


def drop(teacher: Choices, student: Choices, labels: Choices) -> Drop:
    """Return the paired drop between the classes (N,) that two models choose."""
    right = teacher == labels, student == labels
    only_teacher = int((right[0] & ~right[1]).sum())
    only_student = int((right[1] & ~right[0]).sum())
    return paired_drop(only_teacher, only_student, len(labels))


def paired_drop(only_teacher: int, only_student: int, n: int, *, confidence: float = 0.95) -> Drop:
    """Return the drop from the two kinds of disagreement among `n` images."""
    z = normal_quantile(confidence)
    p, q = (only_teacher + 1) / (n + 2), (only_student + 1) / (n + 2)
    reach = z * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    both = only_teacher + only_student
    larger = max(only_teacher, only_student)
    p_value = min(1.0, 2 * sign_test(larger, both)) if both else 1.0
    points = Interval(
        100 * (only_teacher - only_student) / n,
        100 * max(-1.0, p - q - reach),
        100 * min(1.0, p - q + reach),
        n,
    )
    return Drop(points, p_value, only_teacher, only_student)


def top1(classes: Choices, labels: Choices) -> Interval:
    """Return the share of `classes` (N,) that are the label, in percent."""
    return percent_interval(int((classes == labels).sum()), len(labels))


def agreement(teacher: Choices, student: Choices) -> Interval:
    """Return the share of inputs whose chosen classes (N,) are the same, 0..1."""
    return wilson_interval(int((teacher == student).sum()), len(teacher))


def divergence(teacher: Floats, student: Floats) -> float:
    """Return the mean Kullback-Leibler divergence KL(teacher || student) in nats."""
    log_p, log_q = log_probabilities(teacher), log_probabilities(student)
    return float((np.exp(log_p) * (log_p - log_q)).sum(1).mean())


def log_probabilities(outputs: Floats) -> Floats:
    """Return log-probabilities of logits, or of probabilities where rows already are some."""
    values = outputs.astype(np.float64)
    if values.min() >= 0 and np.allclose(values.sum(1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(values, 1e-12)))
    shifted = values - values.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
