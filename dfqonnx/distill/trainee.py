"""A student in training: its parameters, their optimiser, their mean, and its batches.

One step: the teacher answers a batch, the student is moved towards these answers. The batch is
detached from whatever made it, and the teacher keeps no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from dfqonnx.convert.net import Net
from dfqonnx.distill.average import TailMean
from dfqonnx.distill.feed import Batch
from dfqonnx.distill.objective import Answers, total
from dfqonnx.distill.optimiser import optimiser
from dfqonnx.distill.perturb import promoted
from dfqonnx.fakequant.student import Student
from dfqonnx.spec.distill import DistillSpec


class Trainee:
    """One of the students of a run.

    Args:
        student: trained in place.
        teacher: the float network, with the student's blocks tapped.
        spec: the recipe.
        batches: what it sees.
    """

    def __init__(
        self, student: Student, teacher: Net, spec: DistillSpec, batches: Iterator[Batch]
    ) -> None:
        self.student, self._teacher, self._spec, self._batches = student, teacher, spec, batches
        parts = student.parts()
        self._everything = [p for kind in parts.values() for p in kind]
        self._optimiser = optimiser(parts, spec.optimiser)
        self._peaks = [group["lr"] for group in self._optimiser.param_groups]
        self.mean = TailMean(self._everything)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the student's logits: a generator's opponent."""
        logits: Tensor = self.student(x)[0]
        return logits

    def step(self, rate: float, *, averaged: bool) -> float:
        """Take one step and return its loss; one that is not finite changes nothing.

        Args:
            rate: over the peak.
            averaged: whether the parameters afterwards enter the mean.
        """
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        loss = self._loss(next(self._batches))
        value = float(loss.detach())
        self._optimiser.zero_grad(set_to_none=True)
        if not math.isfinite(value):
            return value
        loss.backward()  # type: ignore[no-untyped-call]
        if self._spec.optimiser.clip:
            torch.nn.utils.clip_grad_norm_(self._everything, self._spec.optimiser.clip)
        self._optimiser.step()
        if averaged:
            self.mean.add()
        return value

    def _loss(self, batch: Batch) -> Tensor:
        spec = self._spec

        def loss(x: Tensor) -> Tensor:
            with torch.set_grad_enabled(x.requires_grad):  # only to find harder images
                goal, goals = self._teacher(x)
            out, blocks = self.student(x)
            answers = Answers(out, goal, blocks, goals, spec.temperature, batch.labels)
            return total(spec.losses, answers)

        return promoted(batch.x, loss, spec.perturb) if spec.perturb else loss(batch.x)
