"""How closely a student follows its teacher, without labels.

Targets that hold classes, (N, K), are compared by class and by divergence; all others by the power
of the error over that of what varies in the teacher's: 0 is equal, 1 is as bad as a constant.

    kl     mean over images and such targets of KL(teacher || student)
    error  mean over targets of  sum (t - s)^2 / sum (t - mean t)^2
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dfqonnx.distill.losses import is_classification, kd_loss


@dataclass(frozen=True)
class Agreement:
    """Closeness of two models on the same images.

    Attributes:
        top1: fraction of images with the same most likely class; None without classes.
        kl: mean KL(teacher || student), in nats; None without classes.
        error: mean normalized error of the other targets; None without them.
    """

    top1: float | None
    kl: float | None
    error: float | None = None

    @property
    def distance(self) -> float:
        """What a student is chosen by."""
        return (self.kl or 0.0) + (self.error or 0.0)

    def better_than(self, other: Agreement) -> bool:
        """Tell by distance: on a few hundred images `top1` is too coarse to choose by."""
        return self.distance < other.distance

    def worse_than(self, other: Agreement) -> bool:
        """Tell whether all measures are worse; one alone is within the noise of a small set."""
        if self.top1 is None or other.top1 is None:
            return self.distance > other.distance
        return self.distance > other.distance and self.top1 < other.top1


@dataclass
class _Sums:
    """Of one target over batches."""

    rows: int = 0
    same: float = 0.0
    divergence: float = 0.0
    noise: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    values: int = 0

    def add(self, s: Tensor, t: Tensor) -> None:
        if is_classification(t):
            self.rows += len(t)
            self.same += float((s.argmax(1) == t.argmax(1)).sum())
            self.divergence += float(kd_loss(s, t, 1.0)) * len(t)
            return
        s, t = s.double(), t.double()
        self.noise += float((s - t).square().sum())
        self.total += float(t.sum())
        self.squares += float(t.square().sum())
        self.values += t.numel()

    @property
    def error(self) -> float:
        """Noise over the power of what varies."""
        power = self.squares - self.total**2 / max(1, self.values)
        return self.noise / max(power, 1e-6 * self.squares, 1e-30)


@dataclass
class _AgreementTally:
    of: dict[int, _Sums] = field(default_factory=dict)

    def found(self) -> Agreement:
        classes = [sums for sums in self.of.values() if sums.rows]
        others = [sums.error for sums in self.of.values() if sums.values]
        if not classes and not others:
            return Agreement(0.0, float("inf"))
        rows = sum(sums.rows for sums in classes)
        return Agreement(
            sum(s.same for s in classes) / rows if rows else None,
            sum(s.divergence for s in classes) / rows if rows else None,
            sum(others) / len(others) if others else None,
        )


@torch.no_grad()
def measure_agreement(
    student: nn.Module, teacher: nn.Module, inputs: Iterable[Tensor]
) -> Agreement:
    """Return the agreement over batches of model inputs; nothing and infinity without any."""
    names = tuple(getattr(student, "targets", ()))[1:]
    tally = _AgreementTally()
    for x in inputs:
        for index, (s, t) in enumerate(_pairs(student(x), teacher(x), names)):
            tally.of.setdefault(index, _Sums()).add(s, t)
    return tally.found()


def _pairs(
    student: tuple[Tensor, dict[str, Tensor]],
    teacher: tuple[Tensor, dict[str, Tensor]],
    names: tuple[str, ...],
) -> Iterator[tuple[Tensor, Tensor]]:
    yield student[0], teacher[0]
    for name in names:
        yield student[1][name], teacher[1][name]
