"""The signal to quantization noise ratio of two networks' outputs, batch by batch.

It counts as signal what varies with the input, because only that is information: of N inputs, entry
by entry, around the mean over the inputs,

    SQNR = 10 log10( N / (N - 1) sum (t - mean_N t)^2 / sum (t - s)^2 )

N / (N - 1) makes the variance unbiased. A constant error counts as noise in full. A score of
3 +- 0.1 with an error of 0.1 is at 0 dB, where the power of the output itself would say 30. The
ratio is not defined for one input, nor for an output that does not vary.

Nothing but the mean and two numbers an input are kept. Of two parts with n and m inputs,

    sum (t - mean t)^2 = that of both parts + n m / (n + m) |mean of one - mean of the other|^2

(Chan, Golub and LeVeque, 1983). The interval is a bootstrap over inputs, in which an input's part
of the signal is its distance from the mean of the inputs so far, scaled to the true sum.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.bootstrap import Floats, interval_of_draws, redraw
from dfqonnx.evaluation.statistics import Interval

FLOAT32_STEP = 2.0**-23  # relative: what varies by less than this may be rounding


class SignalAndNoise:
    """Signal and noise of one output over the inputs that were added."""

    def __init__(self) -> None:
        self.entries, self._largest, self._spread = 0, 0.0, 0.0
        self._mean: Floats | None = None
        self._signals: list[Floats] = []
        self._noises: list[Floats] = []

    def add(self, teacher: NDArray[Any], student: NDArray[Any]) -> None:
        """Add outputs (n, ...) of one shape, inputs first."""
        rows, before = len(teacher), self.inputs
        t, s = (part.astype(np.float64).reshape(rows, -1) for part in (teacher, student))
        with np.errstate(invalid="ignore"):  # an infinite output leaves no number
            mean = t.mean(0)
            self._spread += float(np.square(t - mean).sum())
            if self._mean is not None:
                apart = mean - self._mean
                self._spread += before * rows / (before + rows) * float(apart @ apart)
                mean = self._mean + apart * (rows / (before + rows))
            self._mean = mean
            self._signals.append(np.square(t - mean).sum(1))
            self._noises.append(np.square(t - s).sum(1))
        self._largest = max(self._largest, float(np.abs(t).max(initial=0)))
        self.entries += t.size

    @property
    def inputs(self) -> int:
        """How many inputs were added."""
        return sum(map(len, self._noises))

    @property
    def variation(self) -> float | None:
        """N / (N - 1) sum (t - mean_N t)^2; None where nothing varies."""
        n = self.inputs
        if n < 2:
            return None
        power, rounding = self._spread * n / (n - 1), FLOAT32_STEP * self._largest
        return power if rounding**2 * self.entries < power < math.inf else None

    @property
    def decibels(self) -> float | None:
        """The ratio; infinite where the outputs are equal, None where it is not defined."""
        noise, signal = float(np.sum([part.sum() for part in self._noises])), self.variation
        if noise == 0:
            return math.inf
        if signal is None or not math.isfinite(noise):
            return None
        return 10 * math.log10(signal / noise)

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the ratio; None where it is infinite or not defined."""
        value, power = self.decibels, self.variation
        if value is None or power is None or not math.isfinite(value):
            return None
        signals, noises = np.concatenate(self._signals), np.concatenate(self._noises)
        signals = signals * (power / signals.sum())

        def ratio(weights: Floats) -> Floats:
            with np.errstate(divide="ignore", invalid="ignore"):  # a draw without noise, or signal
                return np.asarray(10 * np.log10((weights @ signals) / (weights @ noises)))

        (draws,) = redraw(self.inputs, ratio)
        return interval_of_draws(draws, value, self.inputs)


def sqnr_db(teacher: NDArray[Any], student: NDArray[Any]) -> float | None:
    """Return the ratio in decibels over outputs (N, ...); infinite when equal, or undefined."""
    found = SignalAndNoise()
    found.add(teacher, student)
    return found.decibels
