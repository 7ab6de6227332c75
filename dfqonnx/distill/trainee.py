"""A student in training: its parameters, their form and optimiser, their mean, and its batches.

One step: the teacher answers a batch, the student is moved towards these answers. The batch is
detached from whatever made it, and the teacher keeps no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from dfqonnx.convert.net import Net
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.average import TailMean
from dfqonnx.distill.feed import Batch
from dfqonnx.distill.objective import Answers, total
from dfqonnx.distill.optimiser import optimiser
from dfqonnx.distill.perturb import promoted
from dfqonnx.distill.schedule import rate_at, width_at
from dfqonnx.fakequant.gradual import Softened, slowed
from dfqonnx.fakequant.student import Student
from dfqonnx.spec.distill import DistillSpec


class Trainee:
    """One of the students of a run.

    Args:
        student: trained in place; whole again after `settle`.
        teacher: the float network, with the student's blocks tapped.
        spec: the recipe.
        batches: what it sees.
        sample: model inputs that tell a gradual rounding the means of values.
    """

    def __init__(
        self,
        student: Student,
        teacher: Net,
        spec: DistillSpec,
        *,
        batches: Iterator[Batch],
        sample: Iterable[Tensor],
    ) -> None:
        self.student, self._teacher, self._spec, self._batches = student, teacher, spec, batches
        gradual = spec.optimiser.rounding == "gradual"
        self._soft = Softened(student, sample) if gradual else None
        self.width = 0.0  # of the ramp between two codes, in the last step
        parts = student.parts() if self._soft is None else self._soft.parts()
        self._everything = [p for kind in parts.values() for p in kind]
        self.optimiser = optimiser(parts, spec.optimiser)
        self._peaks = [group["lr"] for group in self.optimiser.param_groups]
        self.mean = TailMean(self._everything)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the student's logits: a generator's opponent."""
        logits: Tensor = self.student(x)[0]
        return logits

    def step(self, done: float, ahead: float) -> float:
        """Take one step and return its loss; one that is not finite changes nothing.

        Args:
            done: fraction of the schedule that is over.
            ahead: the same after this step.
        """
        rate = rate_at(ahead, self._spec.optimiser)
        if self._soft is not None:
            self.width = width_at(done)
            self._soft.set_width(self.width)
        for group, peak in zip(self.optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        if self.width:
            self.optimiser.param_groups[0]["lr"] *= slowed(self.width)  # the codes'
        loss = self._loss(next(self._batches))
        value = float(loss.detach())
        self.optimiser.zero_grad(set_to_none=True)
        if not math.isfinite(value):
            return value
        loss.backward()  # type: ignore[no-untyped-call]
        if self._spec.optimiser.clip:
            torch.nn.utils.clip_grad_norm_(self._everything, self._spec.optimiser.clip)
        self.optimiser.step()
        if self._soft is not None:
            self._soft.pull(self._peaks[0] * rate)
        if self._spec.average and done >= 1.0 - self._spec.average:
            self.mean.add()
        return value

    def agreement(self, inputs: Iterable[Tensor]) -> Agreement:
        """Return the student's agreement with all weights rounded."""
        if self._soft is not None:
            self._soft.set_width(0.0)  # the next step sets it anew
        return measure_agreement(self.student, self._teacher, inputs)

    def settle(self) -> None:
        """End the training: the mean of the parameters, where there is one, all weights rounded."""
        self.mean.apply()
        if self._soft is not None:
            self._soft.settle()

    def _loss(self, batch: Batch) -> Tensor:
        spec = self._spec

        def loss(x: Tensor) -> Tensor:
            with torch.set_grad_enabled(x.requires_grad):  # only to find harder images
                goal, goals = self._teacher(x)
            out, blocks = self.student(x)
            answers = Answers(out, goal, blocks, goals, spec.temperature, batch.labels)
            return total(spec.losses, answers)

        return promoted(batch.x, loss, spec.perturb) if spec.perturb else loss(batch.x)
