"""Statistics of two networks on the same inputs, with their intervals.

Top-1 of one model: Wilson's interval for a share. The drop is paired: with b images that only the
teacher gets right and c that only the student gets right,

    drop = (b - c) / n

whose interval is Bonett and Price's (2012), a Wald interval with one image added to each kind of
disagreement, p = (b + 1) / (n + 2), q = (c + 1) / (n + 2):

    (p - q) +- z * sqrt((p + q - (p - q)^2) / (n + 2))

and whose p-value is McNemar's exact test, b out of b + c at one half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + confidence / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = max(0.0, middle - reach), min(1.0, middle + reach)
    return 0.0 if share <= 0 else low, 1.0 if share >= 1 else high  # without rounding


def wilson_interval(hits: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return `hits` out of `n` with Wilson's interval."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    return Interval(hits / n, float(interval.low), float(interval.high), n)


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
    from scipy.stats import binomtest, norm

    z = float(norm.ppf(0.5 + confidence / 2))
    p, q = (only_teacher + 1) / (n + 2), (only_student + 1) / (n + 2)
    reach = z * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    both = only_teacher + only_student
    p_value = float(binomtest(only_teacher, both).pvalue) if both else 1.0
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
    from scipy.special import log_softmax

    values = outputs.astype(np.float64)
    if values.min() >= 0 and np.allclose(values.sum(1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(values, 1e-12)))
    return np.asarray(log_softmax(values, axis=1))
