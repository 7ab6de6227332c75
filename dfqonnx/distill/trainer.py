"""The training loop, and the students in it.

A step draws a batch, asks the teacher for its outputs and moves the student towards them:

    loss = kd KL(teacher || student) T^2 + features sum_b MSE_b / var_b + ...      (`losses`)

Weights, biases and logarithmic scales are parameter groups of their own. Under SGD scales have
neither momentum nor decay: DFQF trains its clips so.

Weight averaging, over the last part of the training. Logarithmic scales get a geometric mean.

    mean_k = mean_{k-1} + (p_k - mean_{k-1}) / k

Sample-difficulty promotion, on images moved to where the student errs more.

    d = e sign(gradient of L(x) by x)          L' = L(x) + L(x + d)

L is the whole loss, the teacher answering both; d is at most e in every normalized pixel and is no
part of the gradient. A step costs a good two of the plain ones. Source: Li et al., "Hard Sample
Matters a Lot in Zero-Shot Quantization" (HAST), CVPR 2023; e = 0.01 on CIFAR-10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dfqonnx.config.distillation import DistillationConfig, OptimizerConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.optimizer_state import like, load_optimizer, save_optimizer, select
from dfqonnx.convert.reduced_precision import PROBE_IMAGES
from dfqonnx.core.context import RunContext
from dfqonnx.distill.agreement import Agreement, measure_agreement
from dfqonnx.distill.image_pool import Batch, ImagePool, TrainingBatches
from dfqonnx.distill.layer_outputs import captured_layers, find_bodies, needs_layers
from dfqonnx.distill.losses import DistillationLossInputs, weighted_sum
from dfqonnx.distill.muon import Muon, is_matrix
from dfqonnx.distill.reduced_steps import reduce_steps
from dfqonnx.distill.schedule import rounding_temperature
from dfqonnx.distill.state import TrainingState
from dfqonnx.distill.step_gradients import Answers, StepGradients
from dfqonnx.fakequant.soft_rounding import SoftRounding, code_lr_factor
from dfqonnx.fakequant.student import Student
from dfqonnx.synthesis.generators.training import OnlineGenerators

AGREEMENT_EVERY = 100  # steps; a measurement costs about one
ALONE = RunContext()
SAMPLE_IMAGES = 256  # that soft rounding takes the means of values from


class Trainer:
    """Trains a student and its replicas, each on batches of its own.

    Replicas start equal, and the student is the first; there are `co_training.students` of them
    where generators take part. Without these (`online` is None) batches come from the pool. The
    images of a step pass in parts of `part`, on all ranks of the context.
    """

    def __init__(
        self,
        student: Student,
        teacher: ProgramModule,
        pool: ImagePool,
        *,
        config: DistillationConfig,
        online: OnlineGenerators | None,
        context: RunContext,
        part: int | None = None,
    ) -> None:
        self._pool, self._config, self._online = pool, config, online
        self._progress, self._ranks = context.progress, context.ranks
        count = 1 if online is None else online.co_training.students
        students = [student, *(copy_student(student) for _ in range(1, count))]
        self.replicas: list[Replica] = []
        probe = pool.tensor(pool.train[:PROBE_IMAGES])
        for index, each in enumerate(students):
            generator = torch.Generator().manual_seed(context.seed + 7919 * index)
            batches = TrainingBatches(pool, online, config, generator)
            sample = pool.batches(pool.train[:SAMPLE_IMAGES], config.batch_size)
            self.replicas.append(
                Replica(
                    each,
                    teacher,
                    config,
                    batches=batches,
                    sample=sample,
                    probe=probe,
                    part=part,
                    context=context,
                )
            )

    def train(
        self, state: TrainingState, *, after_step: Callable[[], None] = lambda: None
    ) -> Agreement:
        """Take steps until training is over; keep the best replica and return its agreement.

        `after_step` is called between any two steps.
        """
        first = self.replicas[0]
        self._progress.start("distill", state.total_steps, done=state.step)
        state.begin_training()
        while not state.is_over:
            done, done_after = state.done, state.done_after_step
            if self._online is not None and self._online.is_due(state.step):
                self._online.co_train(self.replicas, done=done)
            loss = float(np.mean([replica.step(done, done_after) for replica in self.replicas]))
            state.record_loss(loss)
            if not math.isfinite(loss):
                continue
            if state.step % AGREEMENT_EVERY == 0 and len(self._pool.held_out):
                state.record_agreement(first.measure_agreement(self._held_out()).top1)
            figures = {} if state.agreement is None else {"agreement": state.agreement}
            self._progress.advance(1, loss=loss, **figures)
            if state.fit_steps_to_budget():
                state.total_steps = self._ranks.agree(state.total_steps)
                self._progress.start("distill", state.total_steps, done=state.step)
            state.log(
                lr_factor=self._config.optimizer.lr_factor(done_after),
                rounding_temperature=first.temperature,
            )
            after_step()
        return self._keep_best()

    def save_state(self) -> dict[str, Tensor]:
        """Return everything that steps change, by name; `TrainingState` is beside it."""
        parts = {f"replica{i}.": each.save_state() for i, each in enumerate(self.replicas)}
        if self._online is not None:
            parts["generators."] = self._online.save_state()
        return {head + name: value for head, part in parts.items() for name, value in part.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `save_state` was; the students are those that training began with."""
        for index, replica in enumerate(self.replicas):
            replica.load_state(select(state, f"replica{index}."))
        if self._online is not None:
            self._online.load_state(select(state, "generators."))

    def _keep_best(self) -> Agreement:
        """Give the student the parameters of the replica that agrees best; return how well."""
        for replica in self.replicas:
            replica.finish()
        found = [replica.measure_agreement(self._held_out()) for replica in self.replicas]
        best = min(range(len(found)), key=lambda index: found[index].distance)
        if best:
            self.replicas[0].student.load_state(self.replicas[best].student.save_state())
        return found[best]

    def _held_out(self) -> Iterator[Tensor]:
        return self._pool.held_out_batches(self._config.batch_size)


def copy_student(student: Student) -> Student:
    """Return a student with the same parameters, on the same device."""
    copy = Student(student.net.program, student.plan)
    copy.load_state(student.save_state())
    return copy.to(next(student.parameters()).device)


class Replica:
    """One student in training: its optimizer, its soft rounding, its averaged weights, its batches.

    The student is trained in place; its weights are its own again after `finish`. Soft rounding
    takes the means of values from `sample`, batches of model inputs. `probe`, a few of them, shows
    whether steps pass in bfloat16 (`reduced_steps`); without it they do not.
    """

    def __init__(
        self,
        student: Student,
        teacher: ProgramModule,
        config: DistillationConfig,
        *,
        batches: TrainingBatches,
        sample: Iterable[Tensor],
        probe: Tensor | None = None,
        part: int | None = None,
        context: RunContext = ALONE,
    ) -> None:
        self.student, self._teacher = student, teacher
        self._passes: tuple[nn.Module, nn.Module] = (student, teacher)
        self._config, self._batches = config, batches
        self._reads_layers = needs_layers(config)
        self._bodies = find_bodies(student) if self._reads_layers else ()
        self._holds_codes = config.optimizer.rounding == "held"
        is_soft = self._holds_codes or config.optimizer.rounding == "soft"
        if is_soft and probe is not None:
            self._passes = reduce_steps(student, teacher, probe)
        self._soft_rounding = SoftRounding(student, sample) if is_soft else None
        self.temperature = 0.0  # of soft rounding in the last step; 0 where all weights are rounded
        trained: Student | SoftRounding = self._soft_rounding or student
        parts = trained.parameter_groups()
        self._parameters = [p for kind in parts.values() for p in kind]
        self.optimizers = build_optimizers(parts, config.optimizer)
        self._groups = [group for own in self.optimizers for group in own.param_groups]
        self._peak_rates = [group["lr"] for group in self._groups]
        self._average = WeightAverage(self._parameters)
        self.gradients = StepGradients(
            self._loss, self._parameters, self._passes[1], part=part, context=context
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Return the student's logits: it is the opponent of a generator."""
        logits: Tensor = self.student(x)[0]
        return logits

    def step(self, done: float, done_after: float) -> float:
        """Take one step and return its loss; one that is not finite changes nothing.

        `done` is the fraction of the schedule that is over, `done_after` the same after this step.
        """
        config = self._config
        lr_factor = config.optimizer.lr_factor(done_after)
        self._set_rates(lr_factor, done)
        value = self.gradients.compute(next(self._batches))
        if not math.isfinite(value):
            return value
        if config.optimizer.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self._parameters, config.optimizer.max_grad_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        if self._soft_rounding is not None:
            self._soft_rounding.regularize(config.optimizer.rates().weights * lr_factor)
        if config.weight_averaging and done >= 1.0 - config.weight_averaging:
            self._average.add()
        return value

    def measure_agreement(self, inputs: Iterable[Tensor]) -> Agreement:
        """Round all weights and return the student's agreement with its teacher."""
        if self._soft_rounding is not None:
            self._soft_rounding.set_temperature(0.0)  # the next step sets it anew
        return measure_agreement(self.student, self._teacher, inputs)

    def finish(self) -> None:
        """Give the student its averaged weights, where there are some, all of them rounded."""
        self._average.apply()
        if self._soft_rounding is not None:
            self._soft_rounding.harden()

    def save_state(self) -> dict[str, Tensor]:
        """Return everything that a step changes: parameters, optimizer, mean, batches to come."""
        parts = {
            "parameter.": {str(i): p.detach() for i, p in enumerate(self._parameters)},
            **{f"optimizer.{i}.": save_optimizer(own) for i, own in enumerate(self.optimizers)},
            "average.": self._average.save_state(),
            "batches.": self._batches.save_state(),
        }
        if self._soft_rounding is not None:  # as an opponent reads it before the next step
            temperature = torch.tensor(self._soft_rounding.temperature, dtype=torch.float64)
            parts["rounding."] = {"temperature": temperature}
        return {head + name: value for head, part in parts.items() for name, value in part.items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `save_state` was; the student is the one that training began with."""
        for index, parameter in enumerate(self._parameters):
            parameter.copy_(like(state[f"parameter.{index}"], parameter))
        for index, own in enumerate(self.optimizers):
            load_optimizer(own, select(state, f"optimizer.{index}."))
        self._groups = [group for own in self.optimizers for group in own.param_groups]
        self._average.load_state(select(state, "average."))
        self._batches.load_state(select(state, "batches."))
        if self._soft_rounding is not None:
            self._soft_rounding.set_temperature(float(state["rounding.temperature"]))

    def _set_rates(self, lr_factor: float, done: float) -> None:
        """Set the temperature of soft rounding and the learning rates of a step."""
        for group, peak in zip(self._groups, self._peak_rates, strict=True):
            group["lr"] = peak * lr_factor
        if self._soft_rounding is not None:
            self.temperature = 0.0 if self._holds_codes else rounding_temperature(done)
            self._soft_rounding.set_temperature(self.temperature)
            if self.temperature:
                for group in self._groups:
                    slower = group["kind"] == "weights"
                    group["lr"] *= code_lr_factor(self.temperature) if slower else 1.0

    def _loss(
        self, batch: Batch, variances: Mapping[str, Tensor], answers: Answers | None
    ) -> Tensor:
        config = self._config

        def loss(x: Tensor) -> Tensor:
            with torch.set_grad_enabled(x.requires_grad):  # only to find harder images
                found = answers if answers is not None and x is batch.x else self._passes[1](x)
            teacher, teacher_features = found
            with captured_layers(self.student, active=self._reads_layers) as layers:
                student, student_features = self._passes[0](x)
            inputs = DistillationLossInputs(
                student=student,
                teacher=teacher,
                student_features=student_features,
                teacher_features=teacher_features,
                temperature=config.temperature,
                labels=batch.labels,
                student_layers=layers,
                teacher_layers=teacher_features,
                bodies=self._bodies,
                variances=variances,
            )
            return weighted_sum(config.losses, inputs)

        if config.perturb:
            return sample_difficulty_loss(batch.x, loss, config.perturb)
        return loss(batch.x)


def sample_difficulty_loss(x: Tensor, loss: Callable[[Tensor], Tensor], epsilon: float) -> Tensor:
    """Return L(x) + L(x + d), e = `epsilon`; gradients reach what `loss` reads, not the images."""
    x = x.detach().requires_grad_(True)
    plain = loss(x)
    (slope,) = torch.autograd.grad(plain, x, retain_graph=True)
    harder = (x + epsilon * slope.sign()).detach()
    return plain + loss(harder)


def build_optimizers(
    parts: Mapping[str, list[torch.nn.Parameter]], config: OptimizerConfig
) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimizers of `weights`, `biases` and logarithmic `scales`."""
    rates, weights = config.rates(), parts["weights"]
    matrices = [p for p in weights if config.kind == "muon" and is_matrix(p)]
    others = [p for p in weights if config.kind != "muon" or not is_matrix(p)]
    groups = {
        "weights": (others, rates.biases if config.kind == "muon" else rates.weights),
        "biases": (parts["biases"], rates.biases),
        "scales": (parts["scales"], rates.scales),
    }
    found: list[dict[str, Any]] = []
    for kind, (parameters, lr) in groups.items():
        decay = config.weight_decay if kind == "weights" else 0.0
        group = {"kind": kind, "params": parameters, "lr": lr, "weight_decay": decay}
        if config.kind == "sgd":
            momentum = 0.0 if kind == "scales" else config.momentum
            group |= {"momentum": momentum, "nesterov": config.nesterov and momentum > 0}
        if parameters:
            found.append(group)
    sgd = config.kind == "sgd"
    plain = torch.optim.SGD(found) if sgd else torch.optim.Adam(found, fused=True)
    if not matrices:
        return (plain,)
    group = {"kind": "weights", "params": matrices}
    return Muon([group], lr=rates.weights, weight_decay=config.weight_decay), plain


class WeightAverage:
    """A running mean of parameters."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = list(parameters)
        self._mean: list[Tensor] = []
        self._count = 0

    @torch.no_grad()
    def add(self) -> None:
        """Take the parameters as they are now into the mean."""
        self._count += 1
        if not self._mean:
            self._mean = [p.detach().clone() for p in self._parameters]
        else:
            torch._foreach_lerp_(self._mean, self._parameters, 1.0 / self._count)

    def save_state(self) -> dict[str, Tensor]:
        """Return the mean, and of how many."""
        means = {str(index): mean for index, mean in enumerate(self._mean)}
        return {"count": torch.tensor(self._count), **means}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `save_state` was."""
        self._count = int(state["count"])
        parameters = self._parameters if self._count else []
        self._mean = [like(state[str(index)], p) for index, p in enumerate(parameters)]

    @torch.no_grad()
    def apply(self) -> None:
        """Set the parameters to their mean; without one they stay."""
        for parameter, mean in zip(self._parameters, self._mean, strict=bool(self._mean)):
            parameter.copy_(mean)
