"""What the student is asked to match. N images, K classes, T temperature.

    kd        T^2 / N  sum_n KL( softmax(t_n / T) || softmax(s_n / T) )
    logits    1 / (N K)  sum (t - s)^2
    features  1 / B  sum_b  mean (t_b - s_b)^2 / var(t_b)        over B block outputs

Each is O(1) at any width of the network; T^2 keeps the gradient's size independent of T (Hinton et
al., 2015). var is the variance over all elements: a block error of 1 means nothing was learned.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

LEAST_VARIANCE = 1e-8


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the distillation loss of logits (N, K), or (..., K) taken as rows."""
    s = functional.log_softmax(student.flatten(0, -2) / temperature, dim=-1)  # (N, K)
    t = functional.log_softmax(teacher.flatten(0, -2) / temperature, dim=-1)  # (N, K)
    return functional.kl_div(s, t, reduction="batchmean", log_target=True) * temperature**2


def logit_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared error of the logits."""
    return functional.mse_loss(student, teacher)


def feature_loss(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Return the mean over blocks of error over teacher variance; 0 without blocks."""
    if not student:
        return torch.zeros(())
    terms = []
    for name, value in student.items():
        target = teacher[name]
        spread = target.var(correction=0).clamp_min(LEAST_VARIANCE)
        terms.append(functional.mse_loss(value, target) / spread)
    return torch.stack(terms).mean()
