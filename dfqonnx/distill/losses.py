"""What the student is asked to match. N images, K classes, T temperature, B block outputs.

    kd        T^2 / N  sum_n KL( softmax(t_n / T) || softmax(s_n / T) )
    logits    mean (t - s)^2                                     over N K logits
    features  sum_b  mean (t_b - s_b)^2 / var(t_b)

T^2 keeps the gradient's size independent of T (Hinton et al., "Distilling the Knowledge in a Neural
Network", 2015). var is over all elements of the batch: a block's error of 1 means nothing learned.

What the student is made to lower: a weighted sum of losses of one batch's answers.

A loss is a function `DistillationLossInputs -> scalar` with its settings as keyword arguments, filed by name in
`STUDENT_LOSSES`; names, settings and defaults stand in `config/loss_terms`.

Decoupled knowledge distillation: what the target class gets, and how the rest share the rest.

    target  KL( (p_c, 1 - p_c)^t || (p_c, 1 - p_c)^s )       c the target class
    others  KL( q^t || q^s ),  q_k = p_k / (1 - p_c), k other than c
    loss    T^2 ( alpha target + beta others )               softmax at temperature T

In plain distillation `others` is weighted by 1 - p_c of the teacher, next to nothing where it is
confident.

Source: Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022; LRQ trains its student so.

Channel attention: which channels of a block are loud.

    a_c = mean over space of f_c^2, divided by its norm over channels
    loss = sum over blocks of mean ( a^s - a^t )^2

Source: Li et al., "Hard Sample Matters a Lot in Zero-Shot Quantization" (HAST), CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.config.loss_terms import LossTerm
from dfqonnx.core.registry import Registry
from dfqonnx.fakequant.quantizer import inner

LEAST_VARIANCE = 1e-8


def is_classification(output: Tensor) -> bool:
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
    terms = [normalized_error(value, teacher[name]) for name, value in student.items()]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def normalized_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Return mean (teacher - student)^2 / var(teacher), a scalar; gradient to the student only."""
    return _NormalizedError.apply(student, teacher)  # type: ignore[no-any-return, no-untyped-call]


class _NormalizedError(torch.autograd.Function):
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


def decoupled_loss(
    student: Tensor,
    teacher: Tensor,
    classes: Tensor,
    *,
    temperature: float,
    target: float,
    others: float,
) -> Tensor:
    """Return the loss, mean over the batch.

    Args:
        student: logits (N, K).
        teacher: logits (N, K).
        classes: (N,) the target classes.
        temperature: T.
        target: alpha.
        others: beta.
    """
    s, t = (functional.log_softmax(z / temperature, 1) for z in (student, teacher))
    binary = _kl(_binary(s, classes), _binary(t, classes))
    return temperature**2 * (target * binary + others * _kl(_rest(s, classes), _rest(t, classes)))


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _binary(logs: Tensor, classes: Tensor) -> Tensor:
    """Return log (p_c, 1 - p_c), (N, 2)."""
    own = logs.gather(1, classes[:, None])
    return torch.cat([own, _others(logs, classes).logsumexp(1, keepdim=True)], 1)


def _rest(logs: Tensor, classes: Tensor) -> Tensor:
    """Return log q, (N, K - 1)."""
    return functional.log_softmax(_others(logs, classes), 1)


def _others(logs: Tensor, classes: Tensor) -> Tensor:
    n, k = logs.shape
    keep = torch.arange(k, device=logs.device) != classes[:, None]  # (N, K)
    return logs[keep].view(n, k - 1)


def attention_loss(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Return the loss over blocks (N, C, ...); 0 without blocks."""
    terms = [
        functional.mse_loss(channel_attention(value), channel_attention(teacher[name]))
        for name, value in student.items()
        if value.dim() > 2
    ]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def channel_attention(value: Tensor) -> Tensor:
    """Return unit vectors (N, C) of a value (N, C, ...)."""
    return functional.normalize(value.flatten(2).square().mean(2), dim=1)


@dataclass(frozen=True)
class DistillationLossInputs:
    """What teacher and student say about the same N images.

    Attributes:
        student: logits (N, K), or (N, ..., K).
        teacher: logits of the same shape; no gradient.
        blocks: the student's block outputs by name.
        goals: the teacher's, by the same names; no gradient.
        temperature: of the distillation losses.
        labels: (N,) the classes that the images were made for; None where that is not known.
    """

    student: Tensor
    teacher: Tensor
    blocks: Mapping[str, Tensor]
    goals: Mapping[str, Tensor]
    temperature: float
    labels: Tensor | None = None

    @property
    def targets(self) -> Tensor:
        """The classes (N,) that count as right: those asked for, else the teacher's."""
        return self.teacher.argmax(1) if self.labels is None else self.labels


StudentLoss = Callable[..., Tensor]
STUDENT_LOSSES: Registry[StudentLoss] = Registry("student loss")


def total(terms: Iterable[LossTerm], answers: DistillationLossInputs) -> Tensor:
    """Return the weighted sum; terms of weight 0 are not computed."""
    values = [
        term.weight * STUDENT_LOSSES[term.name](answers, **dict(term.settings))
        for term in terms
        if term.weight
    ]
    result = answers.student.new_zeros(()) if not values else values[0]
    for value in values[1:]:
        result = result + value
    return result


@STUDENT_LOSSES.add("kd")
def kd(answers: DistillationLossInputs) -> Tensor:
    """Return KL(teacher || student) T^2; without classes the normalized error."""
    if not is_classification(answers.teacher):
        return normalized_error(answers.student, answers.teacher)
    return kd_loss(answers.student, answers.teacher, answers.temperature)


@STUDENT_LOSSES.add("logits")
def logits(answers: DistillationLossInputs) -> Tensor:
    """Return the logits' mean squared error."""
    return logit_loss(answers.student, answers.teacher)


@STUDENT_LOSSES.add("features")
def features(answers: DistillationLossInputs) -> Tensor:
    """Return the blocks' normalized error; 0 without blocks."""
    return feature_loss(answers.blocks, answers.goals)


@STUDENT_LOSSES.add("class")
def class_(answers: DistillationLossInputs) -> Tensor:
    """Return cross-entropy to the class asked for; without one, to the teacher's own."""
    return functional.cross_entropy(answers.student, answers.targets)


@STUDENT_LOSSES.add("dkd")
def dkd(answers: DistillationLossInputs, *, target: float = 1.0, others: float = 8.0) -> Tensor:
    """Return the decoupled distillation loss of `distill/losses`."""
    return decoupled_loss(
        answers.student,
        answers.teacher,
        answers.targets,
        temperature=answers.temperature,
        target=target,
        others=others,
    )


@STUDENT_LOSSES.add("attention")
def attention(answers: DistillationLossInputs) -> Tensor:
    """Return the blocks' channel-attention loss; 0 without blocks."""
    return attention_loss(answers.blocks, answers.goals)
