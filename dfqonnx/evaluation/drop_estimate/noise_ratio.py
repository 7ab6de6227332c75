"""The noise of a student's outputs over the signal of its teacher's: one figure without a unit.

With t and s the log-probabilities of teacher and student (N, K), less each image's mean over the
classes, rho the correlation of the two, and the student's scale left free:

    ratio = (1 - rho^2) / rho^2         power of the noise over power of the signal

    fixed images    rho = <t', s'> / sqrt(<t', t'> <s', s'>)
                    t' = t - mean_w t, s' = s - mean_w s;
                    summed over classes and images, weights w
    real images     rho = mean over images of cos(t_i, s_i)

Half of a network's output for procedural images is one and the same vector whatever the image, so
its mean is subtracted. And images are selected: of every class that the teacher predicts, the half
of which it is most certain, since a real image's margin is about three times that of a procedural
one. A class with n selected images counts as sqrt(n): real ones are spread more evenly. Real images
need none of this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqonnx.evaluation.statistics import log_probabilities

Floats = NDArray[np.float64]
Outputs = NDArray[Any]
KEPT = 0.5  # of every class, the most certain
LEAST = 4  # images of a class, where it has them
FAINTEST = 0.05  # of rho: below it the signal is lost


def fixed_images_ratio(teacher: Outputs, student: Outputs) -> float:
    """Return the ratio on fixed images from outputs (N, K), logits or probabilities."""
    t, s = log_probabilities(teacher), log_probabilities(student)
    places, weights = select_certain(t)
    t, s, w = _centered(t[places]), _centered(s[places]), weights[:, None]
    t, s = t - (w * t).sum(0), s - (w * s).sum(0)
    both = float(np.sqrt((w * t * t).sum() * (w * s * s).sum()))
    return _ratio(0.0 if both == 0 else float((w * t * s).sum()) / both)


def real_images_ratio(teacher: Outputs, student: Outputs) -> float:
    """Return the ratio on real images from outputs (N, K), logits or probabilities."""
    t, s = _centered(log_probabilities(teacher)), _centered(log_probabilities(student))
    both = np.sqrt((t * t).sum(1) * (s * s).sum(1))  # (N,)
    cosine = np.divide((t * s).sum(1), both, out=np.zeros_like(both), where=both > 0)
    return _ratio(float(cosine.mean()))


def certainty(teacher: Outputs) -> float:
    """Return 1 - H / log K, mean over images: 1 is certain of one class, 0 is undecided."""
    log_p = log_probabilities(teacher)
    entropy = -(np.exp(log_p) * log_p).sum(1)  # (N,)
    return float(1 - entropy.mean() / np.log(log_p.shape[1]))


def select_certain(t: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Return the indices of the most certain images of every class in `t` (N, K), and weights."""
    best = np.sort(t, axis=1)[:, -2:]  # (N, 2)
    margin, chosen = best[:, 1] - best[:, 0], t.argmax(1)
    places, weights = [], []
    for label in np.unique(chosen):
        own = np.flatnonzero(chosen == label)
        own = own[np.argsort(-margin[own], kind="stable")]
        count = max(min(LEAST, len(own)), int(np.ceil(KEPT * len(own))))
        places.append(own[:count])
        weights.append(np.full(count, count**-0.5))
    joined = np.concatenate(weights)
    return np.concatenate(places), joined / joined.sum()


def _centered(values: Floats) -> Floats:
    return np.asarray(values - values.mean(1, keepdims=True))


def _ratio(rho: float) -> float:
    rho = min(1.0, max(FAINTEST, rho))
    return (1 - rho**2) / rho**2
