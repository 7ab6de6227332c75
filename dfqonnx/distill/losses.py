"""What the student is asked to match. N images, K classes, T temperature, B block outputs.

    kd        T^2 / N  sum_n KL( softmax(t_n / T) || softmax(s_n / T) )
    logits    mean (t - s)^2                                     over N K logits
    features  sum_b  mean (t_b - s_b)^2 / var(t_b)

T^2 keeps the gradient's size independent of T (Hinton et al., "Distilling the Knowledge in a Neural
Network", 2015). var is over all elements of the batch: a block's error of 1 means nothing learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.fakequant.inner import inner

LEAST_VARIANCE = 1e-8


def holds_classes(output: Tensor) -> bool:
    """Tell whether rows are scores of classes, (N, K) with K above 1; others are just values."""
    return output.dim() == 2 and output.shape[1] > 1


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the distillation loss of logits (N, K), or (..., K) taken as rows."""
    s = functional.log_softmax(student.flatten(0, -2) / temperature, dim=-1)  # (N, K)
    t = functional.log_softmax(teacher.flatten(0, -2) / temperature, dim=-1)  # (N, K)
    divergence = functional.kl_div(s, t, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def logit_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared error of the logits."""
    return functional.mse_loss(student, teacher)


def feature_loss(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Return the sum over blocks of mean squared error over teacher variance; 0 without blocks."""
    terms = [normalised_error(value, teacher[name]) for name, value in student.items()]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def normalised_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean (teacher - student)^2 / var(teacher), a scalar; gradient to the student only."""
    return _NormalisedError.apply(student, teacher)  # type: ignore[no-any-return, no-untyped-call]


class _NormalisedError(torch.autograd.Function):
    """With dot products, four passes over memory instead of about ten."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        difference = student - teacher
        count = teacher.numel()
        mean = teacher.sum() / count
        variance = (inner(teacher, teacher) / count - mean * mean).clamp_min(LEAST_VARIANCE)
        ctx.save_for_backward(difference, variance)
        return inner(difference, difference) / (variance * count)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        difference, variance = ctx.saved_tensors
        return difference * (gradient * 2.0 / (variance * difference.numel())), None
