"""What the student is made to lower: a weighted sum of losses of one batch's answers.

A loss is a function `Answers -> scalar` with its settings as keyword arguments, filed by name in
`STUDENT_LOSSES`; names, settings and defaults stand in `spec/losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from dfqonnx.distill.attention import attention_loss
from dfqonnx.distill.decoupled import decoupled_loss
from dfqonnx.distill.losses import (
    feature_loss,
    holds_classes,
    kd_loss,
    logit_loss,
    normalised_error,
)
from dfqonnx.registry import Registry
from dfqonnx.spec.terms import Term


@dataclass(frozen=True)
class Answers:
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


def total(terms: Iterable[Term], answers: Answers) -> Tensor:
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
def kd(answers: Answers) -> Tensor:
    """Return KL(teacher || student) T^2; without classes the normalised error."""
    if not holds_classes(answers.teacher):
        return normalised_error(answers.student, answers.teacher)
    return kd_loss(answers.student, answers.teacher, answers.temperature)


@STUDENT_LOSSES.add("logits")
def logits(answers: Answers) -> Tensor:
    """Return the logits' mean squared error."""
    return logit_loss(answers.student, answers.teacher)


@STUDENT_LOSSES.add("features")
def features(answers: Answers) -> Tensor:
    """Return the blocks' normalised error; 0 without blocks."""
    return feature_loss(answers.blocks, answers.goals)


@STUDENT_LOSSES.add("class")
def class_(answers: Answers) -> Tensor:
    """Return cross-entropy to the class asked for; without one, to the teacher's own."""
    return functional.cross_entropy(answers.student, answers.targets)


@STUDENT_LOSSES.add("dkd")
def dkd(answers: Answers, *, target: float = 1.0, others: float = 8.0) -> Tensor:
    """Return the decoupled distillation loss of `distill/decoupled`."""
    return decoupled_loss(
        answers.student,
        answers.teacher,
        answers.targets,
        temperature=answers.temperature,
        target=target,
        others=others,
    )


@STUDENT_LOSSES.add("attention")
def attention(answers: Answers) -> Tensor:
    """Return the blocks' channel-attention loss; 0 without blocks."""
    return attention_loss(answers.blocks, answers.goals)
