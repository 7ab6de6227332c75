"""A student in training: its parameters, their form and optimizer, their mean, and its batches.

One step: the teacher answers a batch, the student is moved towards these answers. The batch is
detached from whatever made it, and the teacher keeps no gradient.

The mean of the parameters over the last part of training (tail averaging).

mean_k = mean_{k-1} + (p_k - mean_{k-1}) / k. Steps are averaged as logarithms: a geometric mean.

The student's optimizer: Adam, or SGD with Nesterov momentum, as a recipe says.

Weights, biases and logarithmic steps are groups of their own. Steps have neither momentum nor decay
under SGD: DFQF trains its clips so.

Harder samples while training: images moved to where the student errs more.

    d = e sign(gradient of L(x) by x)          L = loss(x) + loss(x + d)

L is the student's whole loss, the teacher answering both; d is at most e in every normalized pixel
and is no part of the gradient. One step costs a good two of the plain ones.

Source: sample-difficulty promotion of Li et al., "Hard Sample Matters a Lot in Zero-Shot
Quantization" (HAST), CVPR 2023; e = 0.01 on CIFAR-10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from dfqonnx.config.distillation import DistillationConfig, OptimizerConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.image_pool import Batch
from dfqonnx.distill.losses import DistillationLossInputs, total
from dfqonnx.distill.schedule import width_at
from dfqonnx.fakequant.soft_rounding import SoftRounding, slowed
from dfqonnx.fakequant.student import Student


class WeightAverage:
    """A running mean of parameters."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._mean: list[Tensor] = []
        self.count = 0

    @torch.no_grad()
    def add(self) -> None:
        """Take the parameters as they are now into the mean."""
        self.count += 1
        if not self._mean:
            self._mean = [p.detach().clone() for p in self._parameters]
        else:
            torch._foreach_lerp_(self._mean, self._parameters, 1.0 / self.count)

    @torch.no_grad()
    def apply(self) -> None:
        """Set the parameters to their mean; without one they stay."""
        for parameter, mean in zip(self._parameters, self._mean, strict=bool(self._mean)):
            parameter.copy_(mean)


def build_optimizer(
    parts: Mapping[str, list[torch.nn.Parameter]], spec: OptimizerConfig
) -> torch.optim.Optimizer:
    """Return the optimizer of a student's parameters, at peak rates.

    Args:
        parts: `weights`, `biases` and `steps`.
        spec: the recipe.
    """
    weight_rate, step_rate = spec.rates()
    rates = {"weights": weight_rate, "biases": weight_rate, "steps": step_rate}
    groups = [
        {
            "params": parts[kind],
            "lr": rate,
            "weight_decay": spec.weight_decay if kind == "weights" else 0.0,
            **({} if spec.kind == "adam" else _momentum(0.0 if kind == "steps" else spec.momentum)),
        }
        for kind, rate in rates.items()
        if parts[kind]
    ]
    return torch.optim.Adam(groups, fused=True) if spec.kind == "adam" else torch.optim.SGD(groups)


def _momentum(momentum: float) -> dict[str, float | bool]:
    return {"momentum": momentum, "nesterov": momentum > 0}


def promote_sample_difficulty(
    x: Tensor, loss: Callable[[Tensor], Tensor], epsilon: float
) -> Tensor:
    """Return loss(x) + loss(x + d); gradients reach what `loss` reads, not the images.

    Args:
        x: model inputs.
        loss: of model inputs; must be differentiable by them.
        epsilon: e.
    """
    x = x.detach().requires_grad_(True)
    plain = loss(x)
    (slope,) = torch.autograd.grad(plain, x, retain_graph=True)
    harder = (x + epsilon * slope.sign()).detach()
    return plain + loss(harder)


class Trainer:
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
        teacher: ProgramModule,
        spec: DistillationConfig,
        *,
        batches: Iterator[Batch],
        sample: Iterable[Tensor],
    ) -> None:
        self.student, self._teacher, self._spec, self._batches = student, teacher, spec, batches
        gradual = spec.optimizer.rounding == "soft"
        self._soft = SoftRounding(student, sample) if gradual else None
        self.width = 0.0  # of the ramp between two codes, in the last step
        parts = student.parts() if self._soft is None else self._soft.parts()
        self._everything = [p for kind in parts.values() for p in kind]
        self.optimizer = build_optimizer(parts, spec.optimizer)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.mean = WeightAverage(self._everything)

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
        rate = self._spec.optimizer.lr_factor(ahead)
        if self._soft is not None:
            self.width = width_at(done)
            self._soft.set_width(self.width)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * rate
        if self.width:
            self.optimizer.param_groups[0]["lr"] *= slowed(self.width)  # the codes'
        loss = self._loss(next(self._batches))
        value = float(loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(value):
            return value
        loss.backward()  # type: ignore[no-untyped-call]
        if self._spec.optimizer.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self._everything, self._spec.optimizer.max_grad_norm)
        self.optimizer.step()
        if self._soft is not None:
            self._soft.pull(self._peaks[0] * rate)
        if self._spec.weight_averaging and done >= 1.0 - self._spec.weight_averaging:
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
            answers = DistillationLossInputs(
                out, goal, blocks, goals, spec.temperature, batch.labels
            )
            return total(spec.losses, answers)

        return (
            promote_sample_difficulty(batch.x, loss, spec.perturb)
            if spec.perturb
            else loss(batch.x)
        )
