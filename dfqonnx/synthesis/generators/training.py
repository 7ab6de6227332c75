"""Generators in training: one step of one, and all of a run together.

    z ~ N(0, I), y uniform;   x = to_pixels(G(z, y));   G's weights follow  - gradient of losses(x)

The gradient is computed for G's weights alone: it passes through teacher and opponents, which keep
none. `OnlineGenerators` can be drawn from, and go on learning while a student trains. Every batch
takes equal shares from all of them; each learns from its own images. What they draw is detached: a
student that learns from it hands them no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dfqonnx.convert.module import ProgramModule
from dfqonnx.convert.optimizer_state import load_optimizer, save_optimizer, select
from dfqonnx.core.lr_schedule import lr_factor
from dfqonnx.synthesis.augmentation import crop_half_the_time
from dfqonnx.synthesis.bn_statistics import BatchNormTargets
from dfqonnx.synthesis.generators.architecture import OutputToPixels
from dfqonnx.synthesis.losses.objective import ImageLossInputs, Objective, statistics_loss
from dfqonnx.synthesis.synthesis_context import SynthesisContext

Opponent = Callable[[Tensor], Tensor]
LEAST = 16  # images of a pass: the generator normalizes by its own batch


@dataclass(frozen=True)
class TeacherProbe:
    """The teacher as the losses of generators read it; all generators share it."""

    net: ProgramModule  # with taps where `targets` and `features` need them
    targets: BatchNormTargets
    features: str | None  # what the last layer reads; None where that is no plain one
    classes: int  # K; 0 where the teacher has no classes


class GeneratorTrainer:
    """A generator with its optimizer and its losses."""

    def __init__(
        self,
        network: nn.Module,
        to_pixels: OutputToPixels,
        probe: TeacherProbe,
        *,
        context: SynthesisContext,
    ) -> None:
        self.network = network.to(context.device)
        self._to_pixels, self._probe, self._context = to_pixels, probe, context
        self._config, self._crop = context.config.generator, context.config.generator.crop
        self.objective = Objective(context.config.losses)
        self._weights = list(network.parameters())
        self.optimizer = torch.optim.Adam(
            self._weights, lr=self._config.lr, betas=self._config.betas
        )

    def generate(self, count: int, random: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return images (count, C, H, W) and the classes asked for, if any; gradients reach G."""
        n = max(count, LEAST)
        device = self._context.device
        z = torch.randn(n, self._config.latent, generator=random).to(device)
        labels = None
        if self._probe.classes:
            labels = torch.randint(self._probe.classes, (n,), generator=random).to(device)
        asked = labels if self._config.conditional else None
        images = self._to_pixels(self.network(z, asked))
        if self._crop < 1.0:
            images = crop_half_the_time(images, self._crop, random)
        return images[:count], None if asked is None else asked[:count]

    def step(self, opponents: Sequence[Opponent], *, batch: int, rate: float) -> dict[str, float]:
        """Take one step at `rate` times the recipe's; return the loss and its parts.

        The opponents' parameters get no gradient.
        """
        images, labels = self.generate(batch, self._context.generator)
        x = self._context.inputs.to_layout(images)
        logits, taps = self._probe.net(x)
        features = self._probe.features
        read = opponents if self.objective.needs("students") else ()
        loss, found = self.objective(
            ImageLossInputs(
                images=images,
                logits=logits,
                taps=taps,
                targets=self._probe.targets,
                labels=labels,
                features=None if features is None else taps[features],
                students=tuple(opponent(x) for opponent in read),
                generator=self._context.generator,
                normalized=self._context.inputs.preprocessing.standardizes,
            )
        )
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, self._weights, allow_unused=True)
            for weight, gradient in zip(self._weights, gradients, strict=True):
                weight.grad = None if gradient is None else gradient.nan_to_num_(0.0, 0.0, 0.0)
            self.optimizer.param_groups[0]["lr"] = self._config.lr * rate
            self.optimizer.step()
        figures = {"loss": loss, "statistics": statistics_loss(found)} | found
        return {name: float(value.detach()) for name, value in figures.items()}


@dataclass(frozen=True)
class GeneratedBatch:
    """A batch for a student."""

    x: Tensor  # model inputs, detached
    labels: Tensor | None  # (B,) the classes asked for; None where none were


class OnlineGenerators:
    """All generators of a run; iterating yields the uint8 images (B, H, W, C) of its plan."""

    def __init__(
        self, trainers: Sequence[GeneratorTrainer], *, batch: int, context: SynthesisContext
    ) -> None:
        self.co_training, self.batch = context.config.co_training, batch
        self.inputs, self.painted_fraction = context.inputs, context.config.painted_fraction
        self._trainers, self._context = list(trainers), context
        self._config = context.config.generator

    @torch.no_grad()
    def draw(self, count: int, random: torch.Generator) -> GeneratedBatch:
        """Return a batch, equal shares from every generator."""
        n = len(self._trainers)
        shares = [count // n + (i < count % n) for i in range(n)]
        pairs = zip(self._trainers, shares, strict=True)
        parts = [trainer.generate(share, random) for trainer, share in pairs if share]
        x = self.inputs.to_layout(torch.cat([images for images, _ in parts]))
        labels = [asked for _, asked in parts if asked is not None]
        return GeneratedBatch(x.detach(), torch.cat(labels) if len(labels) == len(parts) else None)

    def is_due(self, step: int) -> bool:
        """Return whether the generators step before the student's step number `step`, from 0."""
        every = self.co_training.student_steps
        return every > 0 and step % every == 0

    def co_train(self, students: Sequence[Opponent], *, done: float) -> dict[str, float]:
        """Take one step while students train, of which a fraction is `done`.

        The students are opponents where the recipe says so.
        """
        rate = lr_factor(done, self._config.lr_schedule, milestones=self._config.milestones)
        return self.step(students if self.co_training.opponent == "student" else (), rate=rate)

    def step(self, opponents: Sequence[Opponent], *, rate: float = 1.0) -> dict[str, float]:
        """Let every generator take one step; return the figures of the last one."""
        figures: dict[str, float] = {}
        for trainer in self._trainers:
            figures = trainer.step(opponents, batch=self.batch, rate=rate)
        return figures

    @property
    def about(self) -> str:
        """One line for the report."""
        count, config = len(self._trainers), self._config
        several = f"{count} {config.architecture} generators" if count > 1 else ""
        trained = "trained before" if config.checkpoint else f"{config.iterations} steps"
        return f"{several or f'a {config.architecture} generator'}, {trained}"

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays of all generators by name, as a checkpoint holds them."""
        return {
            f"{index}.{name}": value.detach().cpu().numpy().copy()
            for index, trainer in enumerate(self._trainers)
            for name, value in trainer.network.state_dict().items()
        }

    def save_state(self) -> dict[str, Tensor]:
        """Return all that a step changes: networks, optimizers, losses, the random generator."""
        found = {"random": self._context.generator.get_state()}
        for index, trainer in enumerate(self._trainers):
            parts = {"network.": trainer.network.state_dict()}
            parts["optimizer."] = save_optimizer(trainer.optimizer)
            parts["losses."] = trainer.objective.save_state()
            for head, part in parts.items():
                found |= {f"{index}.{head}{name}": value for name, value in part.items()}
        return found

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `save_state` was."""
        self._context.generator.set_state(state["random"])
        for index, trainer in enumerate(self._trainers):
            part = select(state, f"{index}.")
            trainer.network.load_state_dict(select(part, "network."))
            load_optimizer(trainer.optimizer, select(part, "optimizer."))
            losses = select(part, "losses.")
            trainer.objective.load_state(
                {name: value.to(self._context.device) for name, value in losses.items()}
            )

    def __iter__(self) -> Iterator[Tensor]:
        """Yield uint8 images (B, H, W, C)."""
        images = self._context.plan.images
        for first in range(0, images, self.batch):
            x = self.draw(min(self.batch, images - first), self._context.generator).x
            yield self.inputs.to_pixels(x).cpu()
