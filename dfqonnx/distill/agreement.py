"""How closely a student follows its teacher, without labels.

Outputs that hold classes, (N, K), are compared by class and by divergence; all others by the power
of the error over that of what varies in the teacher's: 0 is equal, 1 is as bad as a constant.

    kl     mean over images and such outputs of KL(teacher || student)
    error  mean over outputs of  sum (t - s)^2 / sum (t - mean t)^2
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfqonnx.distill.losses import is_classification, kd_loss

CLEARLY = 0.1  # more distance, as a fraction, that no noise of classes excuses


@dataclass(frozen=True)
class Agreement:
    """Closeness of two models on the same images."""

    top1: float | None  # the share of images with the same most likely class; None without classes
    kl: float | None  # the mean KL(teacher || student), in nats; None without classes
    error: float | None = None  # the mean normalized error of the other outputs; None without them

    @property
    def distance(self) -> float:
        """The sum of divergence and error, by which a student is chosen."""
        return (self.kl or 0.0) + (self.error or 0.0)

    def better_than(self, other: Agreement) -> bool:
        """Compare by distance: on a few hundred images `top1` is too coarse to choose by."""
        return self.distance < other.distance

    def worse_than(self, other: Agreement) -> bool:
        """Return whether all measures are worse, or the distance by more than `CLEARLY`.

        A little more distance alone is within the noise of a small set.
        """
        if self.distance > (1 + CLEARLY) * other.distance:
            return True
        if self.top1 is None or other.top1 is None:
            return self.distance > other.distance
        return self.distance > other.distance and self.top1 < other.top1


@dataclass(kw_only=True)
class _OutputSums:
    """Sums over the batches of one output."""

    rows: int = 0
    same_class: float = 0.0
    divergence: float = 0.0
    noise: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    values: int = 0

    def add(self, student: Tensor, teacher: Tensor) -> None:
        if is_classification(teacher):
            self.rows += len(teacher)
            self.same_class += float((student.argmax(1) == teacher.argmax(1)).sum())
            self.divergence += float(kd_loss(student, teacher, 1.0)) * len(teacher)
            return
        s, t = student.double(), teacher.double()
        self.noise += float((s - t).square().sum())
        self.total += float(t.sum())
        self.squares += float(t.square().sum())
        self.values += t.numel()

    @property
    def error(self) -> float:
        """The power of the noise over that of what varies."""
        power = self.squares - self.total**2 / max(1, self.values)
        return self.noise / max(power, 1e-6 * self.squares, 1e-30)


@torch.no_grad()
def measure_agreement(
    student: nn.Module, teacher: nn.Module, inputs: Iterable[Tensor]
) -> Agreement:
    """Return the agreement over batches of model inputs; without any it is 0 and infinity."""
    names = tuple(getattr(student, "training_outputs", ()))[1:]
    sums = [_OutputSums() for _ in range(1 + len(names))]
    for x in inputs:
        (s, s_features), (t, t_features) = student(x), teacher(x)
        sums[0].add(s, t)
        for output, name in zip(sums[1:], names, strict=True):
            output.add(s_features[name], t_features[name])
    classes = [output for output in sums if output.rows]
    errors = [output.error for output in sums if output.values]
    if not classes and not errors:
        return Agreement(0.0, float("inf"))
    rows = sum(output.rows for output in classes)
    return Agreement(
        sum(output.same_class for output in classes) / rows if rows else None,
        sum(output.divergence for output in classes) / rows if rows else None,
        sum(errors) / len(errors) if errors else None,
    )
