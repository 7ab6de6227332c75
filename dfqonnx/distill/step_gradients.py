"""The gradients of a training step whose images pass in parts: one after another, or on many ranks.

With N images in a step, and n_p of them in part p, every loss is a mean over images (`losses`), so

    L = sum_p n_p / N L_p          dL/dw = sum_p n_p / N dL_p/dw

where the variances that errors are measured by are those of all N images: the teacher passes them
beforehand, and counts, sums and sums of squares are added up. Each rank takes every R-th image of
R ranks, and its gradients are added up with those of the others in one exchange.

The parts are as many images as fit. Where a GPU turns out to have too little memory for one, the
parts are halved and the step begins anew; nothing of it was kept, and its result is the same.

Gradients are added up here and not by `DistributedDataParallel`, which replaces a gradient that is
not there by zeros: codes that are rounded have none, and Adam's momentum would flip them
(`fakequant/soft_rounding`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from dfqonnx.core.context import RunContext
from dfqonnx.distill.image_pool import Batch
from dfqonnx.distill.losses import TeacherMoments
from dfqonnx.errors import EnvironmentProblem

T = TypeVar("T")
Answers = tuple[Tensor, dict[str, Tensor]]  # of the teacher: logits, and features by name
BatchLoss = Callable[[Batch, Mapping[str, Tensor], Answers | None], Tensor]
# given the variances of the step, and what the teacher answers where it was asked already


class StepGradients:
    """Sets the gradients of parameters to those of the loss of a whole step.

    `part` images pass at once, at most; None takes all of them.
    """

    def __init__(
        self,
        loss: BatchLoss,
        parameters: Sequence[Tensor],
        teacher: nn.Module,
        *,
        part: int | None,
        context: RunContext,
    ) -> None:
        self._loss, self._parameters, self._teacher = loss, parameters, teacher
        self._ranks, self._progress = context.ranks, context.progress
        self.part = part

    def compute(self, batch: Batch) -> float:
        """Set the gradients for the step's images and return its loss.

        Where that is not finite there are no gradients.

        Raises:
            EnvironmentProblem: not even one image fits into a GPU, or another rank has ended.
        """
        count = len(batch.x)
        if self._ranks.count == 1 and (self.part is None or self.part >= count):
            try:
                return self._compute_whole(batch)
            except torch.OutOfMemoryError:
                self._halve(count)
        value = self._compute_parts(batch)
        if not math.isfinite(value):
            self._clear()
        return value

    def _compute_whole(self, batch: Batch) -> float:
        loss = self._loss(batch, {}, None)
        value = float(loss.detach())
        self._clear()
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]
        return value

    def _compute_parts(self, batch: Batch) -> float:
        own, weight = share_of_rank(batch, self._ranks.rank, self._ranks.count)
        moments, answers = self._fitting(self._measure, own)
        if not weight:  # an image that another rank counts
            moments.sums = {name: torch.zeros_like(sums) for name, sums in moments.sums.items()}
        self._ranks.add_up(list(moments.sums.values()))
        known = moments.variances()
        total = self._fitting(partial(self._add_gradients, known, answers, weight), own)
        found = [p.grad for p in self._parameters if p.grad is not None]
        self._ranks.add_up([*found, total])
        return float(total)

    def _measure(self, own: Batch) -> tuple[TeacherMoments, Answers | None]:
        """Return the moments of this rank's images, and the teacher's answers to a single part."""
        moments, answers = TeacherMoments(), None
        with torch.no_grad():
            for part in self._parts(own):
                answers = self._teacher(part.x)
                moments.add(*answers)
        return moments, answers if self._is_one_part(own) else None

    def _add_gradients(
        self, known: Mapping[str, Tensor], answers: Answers | None, weight: float, own: Batch
    ) -> Tensor:
        """Add up the gradients of this rank's parts; return their share of the loss, (1,)."""
        self._clear()
        total = own.x.new_zeros(1)
        for part in self._parts(own):
            asked = answers if self._is_one_part(own) else None
            loss = self._loss(part, known, asked) * (weight * len(part.x))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _is_one_part(self, own: Batch) -> bool:
        return self.part is None or self.part >= len(own.x)

    def _parts(self, own: Batch) -> Iterator[Batch]:
        return split_batch(own, self.part or len(own.x))

    def _fitting(self, work: Callable[[Batch], T], own: Batch) -> T:
        """Return what `work` makes of this rank's images, with parts that fit; see above."""
        while True:
            try:
                return work(own)
            except torch.OutOfMemoryError:
                self._halve(min(self.part or len(own.x), len(own.x)))

    def _halve(self, images: int) -> None:
        """Halve the parts of a step of so many images, of which too many passed at once."""
        if images <= 1:
            raise EnvironmentProblem(
                "the GPU has too little memory for one image in training; use --device cpu, or"
                " another GPU"
            )
        self.part = (images + 1) // 2
        torch.cuda.empty_cache()
        self._progress.note(
            f"The GPU's memory did not suffice: a training step passes {self.part} images at once,"
            " and its result stays the same."
        )

    def _clear(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def share_of_rank(batch: Batch, rank: int, count: int) -> tuple[Batch, float]:
    """Return every `count`-th image of a batch, from `rank` on, and the weight of each: 1 / N.

    A rank that is left without images gets one of weight 0, so that all ranks have gradients.
    """
    images = len(batch.x)
    if rank >= images:
        return next(split_batch(batch, 1)), 0.0
    labels = None if batch.labels is None else batch.labels[rank::count]
    return Batch(batch.x[rank::count], labels), 1.0 / images


def split_batch(batch: Batch, images: int) -> Iterator[Batch]:
    """Yield parts of at most so many images."""
    for first in range(0, len(batch.x), images):
        own = slice(first, first + images)
        yield Batch(batch.x[own], None if batch.labels is None else batch.labels[own])
