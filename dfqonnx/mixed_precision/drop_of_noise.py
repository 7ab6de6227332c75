"""From the noise of a student's outputs to the drop in top-1, and back.

The regression of the estimate of the drop (`evaluation/drop_estimate/regression`) rises with the
noise, so its inverse is found by halving. The noise of a student before training stands for that
of the trained one: training takes noise away, so the drop told is one to be expected at most.
"""

from __future__ import annotations

import math

from dfqonnx.evaluation.drop_estimate.regression import shipped_regression

LEAST, MOST = 1e-9, 1e3  # noise over signal
HALVINGS = 60


def drop_of_noise(noise: float, certainty: float) -> float:
    """Return the drop in points, at least 0, of a network of that certainty."""
    return max(0.0, shipped_regression("fixed").predict(max(noise, LEAST), certainty)[0])


def noise_of_drop(drop: float, certainty: float) -> float:
    """Return the most noise with which a network loses no more than `drop` points."""
    low, high = math.log(LEAST), math.log(MOST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if drop_of_noise(math.exp(middle), certainty) <= drop:
            low = middle
        else:
            high = middle
    return math.exp(low)
