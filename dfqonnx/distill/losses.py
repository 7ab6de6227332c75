"""The losses of distillation. N images, K classes, T temperature, B feature maps ("blocks").

    kd         T^2 / N  sum_n KL( softmax(t_n / T) || softmax(s_n / T) )    / K with `per_class` 1
    logits     mean (t - s)^2                                     over N K logits
    features   sum_b  mean (t_b - s_b)^2 / var(t_b)
    class      cross-entropy to the class asked for, else to the teacher's own
    dkd        T^2 ( target KL( (p_c, 1 - p_c)^t || (p_c, 1 - p_c)^s ) + others KL( q^t || q^s ) )
               c the target class,  q_k = p_k / (1 - p_c) for k other than c,  softmax at T
    attention  sum_r  mean (a_r^s - a_r^t)^2,   a = mean over space of f^2, unit over channels
    layers     sum_k  2 k / (L^2 + L)  mean huber(t_k - s_k),    k = 1 .. L over weighted layers

- T^2 keeps the gradient's size independent of T (Hinton et al., "Distilling the Knowledge in a
  Neural Network", 2015).
- var is over all elements of the step's batch: an error of 1 means that nothing is learned. Where
  its images pass in parts, on one device after another or on several at once, var is that of all of
  them (`variances`): with it every loss is a mean over images, so that those of the parts, times
  their shares of the images, add up to that of the whole, and so do the gradients.
- Plain distillation weights the second term of dkd by 1 - p_c of the teacher, next to nothing where
  it is confident (Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022; LRQ trains so).
- Some papers' code takes the mean of KL over N K elements: that is `per_class`. It is a setting, so
  that a recipe weighs kd alike whatever the number of classes.
- attention is from Li et al., "Hard Sample Matters a Lot in Zero-Shot Quantization" (HAST), CVPR
  2023; r are residual bodies, their outputs before the sum, where the identity does not hide what
  rounding did. A network without any takes its feature maps.
- layers is from Haroush et al., "The Knowledge Within", CVPR 2020 (authors' code:
  amishacorns/quantized.pytorch): huber(e) is e^2 / 2 below 1, |e| - 1/2 above. Their sub-modules
  are our weighted layers, with the BatchNormalization that is folded into them.

A loss is a function `DistillationLossInputs -> scalar` with its settings as keyword arguments,
registered by name in `STUDENT_LOSSES`; `config/loss_terms` holds names, settings and defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dfqonnx.config.loss_terms import LossTerm
from dfqonnx.core.registry import Registry
from dfqonnx.fakequant.quantizer import dot

LEAST_VARIANCE = 1e-8
LOGITS = ""  # the name of the logits among features
Features = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class DistillationLossInputs:
    """What teacher and student make of the same N images."""

    student: Tensor  # logits (N, K), or (N, ..., K)
    teacher: Tensor  # of the same shape; no gradient
    student_features: Features
    teacher_features: Features  # by the same names; no gradient
    temperature: float  # T
    # (N,) classes that the images were made for, -1 where one is unknown; None where all are
    labels: Tensor | None = None
    student_layers: Features = field(default_factory=dict)  # outputs of weighted layers, in order
    teacher_layers: Features = field(default_factory=dict)  # by the same names; no gradient
    bodies: tuple[str, ...] = ()  # of these, those that close a residual body
    variances: Mapping[str, Tensor] = field(default_factory=dict)  # of the whole step, see LOGITS

    @property
    def classes(self) -> Tensor:
        """The classes (N,) that count as right: those asked for, else the teacher's."""
        own = self.teacher.argmax(1)
        return own if self.labels is None else torch.where(self.labels < 0, own, self.labels)


StudentLoss = Callable[..., Tensor]
STUDENT_LOSSES: Registry[StudentLoss] = Registry("student loss")


def weighted_sum(terms: Iterable[LossTerm], inputs: DistillationLossInputs) -> Tensor:
    """Return the weighted sum of losses; those of weight 0 are not computed."""
    values = [
        term.weight * STUDENT_LOSSES[term.name](inputs, **dict(term.settings))
        for term in terms
        if term.weight
    ]
    result = inputs.student.new_zeros(()) if not values else values[0]
    for value in values[1:]:
        result = result + value
    return result


def is_classification(output: Tensor) -> bool:
    """Return whether rows are scores of classes, (N, K) with K above 1; others are just values."""
    return output.dim() == 2 and output.shape[1] > 1


@STUDENT_LOSSES.add("kd")
def kd(inputs: DistillationLossInputs, *, per_class: float = 0.0) -> Tensor:
    """Return KL(teacher || student) T^2; without classes the normalized error.

    Unless `per_class` is 0 the former is divided by the number of classes.
    """
    if not is_classification(inputs.teacher):
        return normalized_error(inputs.student, inputs.teacher, inputs.variances.get(LOGITS))
    found = kd_loss(inputs.student, inputs.teacher, inputs.temperature)
    return found / inputs.teacher.shape[1] if per_class else found


@STUDENT_LOSSES.add("logits")
def logits(inputs: DistillationLossInputs) -> Tensor:
    """Return the mean squared error of the logits."""
    return functional.mse_loss(inputs.student, inputs.teacher)


@STUDENT_LOSSES.add("features")
def features(inputs: DistillationLossInputs) -> Tensor:
    """Return the normalized error of the feature maps; 0 without any."""
    return feature_loss(inputs.student_features, inputs.teacher_features, inputs.variances)


@STUDENT_LOSSES.add("class")
def cross_entropy(inputs: DistillationLossInputs) -> Tensor:
    """Return the cross-entropy to the class asked for; without one, to the teacher's own."""
    return functional.cross_entropy(inputs.student, inputs.classes)


@STUDENT_LOSSES.add("dkd")
def decoupled_kd(
    inputs: DistillationLossInputs, *, target: float = 1.0, others: float = 8.0
) -> Tensor:
    """Return the decoupled distillation loss."""
    classes = inputs.classes
    s, t = (
        functional.log_softmax(z / inputs.temperature, 1) for z in (inputs.student, inputs.teacher)
    )
    binary = _kl(_binary(s, classes), _binary(t, classes))
    rest = _kl(_other_classes(s, classes), _other_classes(t, classes))
    return inputs.temperature**2 * (target * binary + others * rest)


@STUDENT_LOSSES.add("attention")
def attention(inputs: DistillationLossInputs) -> Tensor:
    """Return the channel-attention loss of bodies, else of feature maps (N, C, ...), else 0."""
    student, teacher = inputs.student_features, inputs.teacher_features
    if inputs.bodies:
        student = {name: inputs.student_layers[name] for name in inputs.bodies}
        teacher = inputs.teacher_layers
    return _sum(
        functional.mse_loss(channel_attention(value), channel_attention(teacher[name]))
        for name, value in student.items()
        if value.dim() > 2
    )


@STUDENT_LOSSES.add("layers")
def layers(inputs: DistillationLossInputs) -> Tensor:
    """Return the weighted smooth L1 of the outputs of weighted layers; 0 without any."""
    count = len(inputs.student_layers)
    return _sum(
        2 * k / (count**2 + count) * functional.smooth_l1_loss(value, inputs.teacher_layers[name])
        for k, (name, value) in enumerate(inputs.student_layers.items(), 1)
    )


def kd_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the distillation loss of logits (N, K), or (..., K) taken as rows."""
    s, t = (
        functional.log_softmax(z.flatten(0, -2) / temperature, dim=-1) for z in (student, teacher)
    )  # (N, K)
    return _kl(s, t) * temperature**2


def feature_loss(
    student: Features, teacher: Features, variances: Mapping[str, Tensor] | None = None
) -> Tensor:
    """Return the sum of the normalized errors of feature maps; 0 without any."""
    known = variances or {}
    return _sum(
        normalized_error(value, teacher[name], known.get(name)) for name, value in student.items()
    )


def channel_attention(value: Tensor) -> Tensor:
    """Return unit vectors (N, C) of a feature map (N, C, ...)."""
    return functional.normalize(value.flatten(2).square().mean(2), dim=1)


def normalized_error(student: Tensor, teacher: Tensor, variance: Tensor | None = None) -> Tensor:
    """Return mean (teacher - student)^2 / var(teacher), a scalar; gradient to the student only.

    `variance` stands for that of the teacher's values where these are a part of more.
    """
    return _NormalizedError.apply(student, teacher, variance)  # type: ignore[no-any-return, no-untyped-call]


class TeacherMoments:
    """Count, sum and sum of squares of the teacher's logits and features over parts of a step."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}  # (3,) each, float64

    @torch.no_grad()
    def add(self, logits: Tensor, features: Features) -> None:
        """Count the values of a part; its images may be none."""
        for name, value in {LOGITS: logits, **features}.items():
            sums = torch.stack([value.new_tensor(value.numel()), value.sum(), dot(value, value)])
            self.sums[name] = self.sums.get(name, 0.0) + sums.double()

    def variances(self) -> dict[str, Tensor]:
        """Return the variance of the values of each name, a scalar."""
        found = {}
        for name, (count, total, squares) in self.sums.items():
            mean = total / count
            found[name] = (squares / count - mean * mean).clamp_min(LEAST_VARIANCE).float()
        return found


class _NormalizedError(torch.autograd.Function):
    """Computes with dot products: four passes over memory instead of about ten."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, known: Tensor | None) -> Tensor:
        difference = student - teacher
        count = teacher.numel()
        if known is None:
            mean = teacher.sum() / count
            variance = (dot(teacher, teacher) / count - mean * mean).clamp_min(LEAST_VARIANCE)
        else:
            variance = known
        ctx.save_for_backward(difference, variance)
        return dot(difference, difference) / (variance * count)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        difference, variance = ctx.saved_tensors
        return difference * (gradient * 2.0 / (variance * difference.numel())), None, None


def _sum(terms: Iterable[Tensor]) -> Tensor:
    values = list(terms)
    return torch.stack(values).sum() if values else torch.zeros(())


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher || student) of log-probabilities (N, K), mean over N."""
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _binary(logs: Tensor, classes: Tensor) -> Tensor:
    """Return log (p_c, 1 - p_c), (N, 2)."""
    own = logs.gather(1, classes[:, None])
    return torch.cat([own, _without(logs, classes).logsumexp(1, keepdim=True)], 1)


def _other_classes(logs: Tensor, classes: Tensor) -> Tensor:
    """Return log q, (N, K - 1)."""
    return functional.log_softmax(_without(logs, classes), 1)


def _without(logs: Tensor, classes: Tensor) -> Tensor:
    """Return the logarithms of all classes but `classes`, (N, K - 1)."""
    n, k = logs.shape
    keep = torch.arange(k, device=logs.device) != classes[:, None]  # (N, K)
    return logs[keep].view(n, k - 1)
