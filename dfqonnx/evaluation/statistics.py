"""Statistics of two networks on the same inputs, with their intervals.

Top-1 of one model: Wilson's interval for a share. The drop is paired: with b images that only the
teacher gets right and c that only the student gets right,

    drop = (b - c) / n

whose interval is Bonett and Price's (2012), a Wald interval with one image added to each kind of
disagreement, p = (b + 1) / (n + 2), q = (c + 1) / (n + 2):

    (p - q) +- z * sqrt((p + q - (p - q)^2) / (n + 2))

and whose p-value is McNemar's exact test, b out of b + c at one half.

The signal to quantization noise ratio counts as signal what varies with the input, because only
that is information: of N inputs, entry by entry, around the mean over the inputs,

    SQNR = 10 log10( N / (N - 1) sum (t - mean_N t)^2 / sum (t - s)^2 )

N / (N - 1) makes the variance unbiased. A constant error counts as noise in full. A score of
3 +- 0.1 with an error of 0.1 is at 0 dB, where the power of the output itself would say 30. The
ratio is not defined for one input, nor for an output that does not vary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
FLOAT32_STEP = 2.0**-23  # relative: what varies by less than this may be rounding


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


def wilson_interval(hits: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return `hits` out of `n` with Wilson's interval."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    return Interval(hits / n, float(interval.low), float(interval.high), n)


def top1(outputs: Floats, labels: NDArray[np.int64]) -> Interval:
    """Return the share of rows of `outputs` (N, K) whose largest entry is the label, in percent."""
    found = wilson_interval(int((outputs.argmax(1) == labels).sum()), len(labels))
    return Interval(100 * found.value, 100 * found.low, 100 * found.high, found.n)


def drop(teacher: Floats, student: Floats, labels: NDArray[np.int64]) -> Drop:
    """Return the paired drop between two sets of outputs (N, K)."""
    right = teacher.argmax(1) == labels, student.argmax(1) == labels
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


def agreement(teacher: Floats, student: Floats) -> Interval:
    """Return the share of images on which both choose the same class, 0..1."""
    return wilson_interval(int((teacher.argmax(1) == student.argmax(1)).sum()), len(teacher))


def divergence(teacher: Floats, student: Floats) -> float:
    """Return the mean Kullback-Leibler divergence KL(teacher || student) in nats."""
    log_p, log_q = log_probabilities(teacher), log_probabilities(student)
    return float((np.exp(log_p) * (log_p - log_q)).sum(1).mean())


def sqnr_db(teacher: Floats, student: Floats) -> float | None:
    """Return the ratio in decibels over outputs (N, ...); infinite when equal, or undefined."""
    t, s = teacher.astype(np.float64), student.astype(np.float64)
    noise, signal = float(np.square(t - s).sum()), variation(t)
    if noise == 0:
        return math.inf
    if signal is None or not math.isfinite(noise):
        return None
    return 10 * math.log10(signal / noise)


def variation(outputs: Floats) -> float | None:
    """Return N / (N - 1) sum (t - mean_N t)^2 of outputs (N, ...); None where nothing varies."""
    n = len(outputs)
    if n < 2:
        return None
    t = outputs.astype(np.float64)
    with np.errstate(invalid="ignore"):  # an infinite output leaves no number
        power = float(np.square(t - t.mean(0)).sum()) * n / (n - 1)
    rounding = FLOAT32_STEP * float(np.abs(t).max(initial=0))
    return power if rounding**2 * t.size < power < math.inf else None


def log_probabilities(outputs: Floats) -> Floats:
    """Return log-probabilities of logits, or of probabilities where rows already are some."""
    from scipy.special import log_softmax

    values = outputs.astype(np.float64)
    if values.min() >= 0 and np.allclose(values.sum(1), 1, atol=1e-3):
        return np.asarray(np.log(np.maximum(values, 1e-12)))
    return np.asarray(log_softmax(values, axis=1))
