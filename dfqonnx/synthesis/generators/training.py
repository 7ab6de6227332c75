"""One generator in training.

    z ~ N(0, I), y uniform;  x = canvas(G(z, y));  G's weights follow  - gradient of losses(x)

The gradient is asked for G's weights alone: teacher and opponents hand it on and keep none.

Generators that can be drawn from, and go on learning while a student trains.

Every batch takes equal shares from all of them; each learns from its own images. What they draw is
detached: a student that learns from it hands them no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from dfqonnx.config.loss_terms import LossTerm
from dfqonnx.config.synthesis import CoTrainingConfig, GeneratorConfig
from dfqonnx.convert.module import ProgramModule
from dfqonnx.core.input_format import InputFormat
from dfqonnx.core.lr_schedule import lr_factor
from dfqonnx.synthesis.bn_statistics import BatchNormTargets
from dfqonnx.synthesis.generators.architecture import OutputToPixels
from dfqonnx.synthesis.generators.classifier_head import Classifier
from dfqonnx.synthesis.losses.objective import ImageLossInputs, Objective, distance

Opponent = Callable[[Tensor], Tensor]
LEAST = 16  # images of a pass: the generator normalizes by its own batch


@dataclass(frozen=True)
class TeacherProbe:
    """What a generator's images are held against; shared by all generators.

    Attributes:
        net: the teacher, tapped where targets and classifier want it.
        targets: the statistics of the training data.
        classifier: the teacher's last layer, where it is a plain one.
        classes: K; 0 where the teacher tells none apart.
        layout: axis order that the teacher reads.
    """

    net: ProgramModule
    targets: BatchNormTargets
    classifier: Classifier | None
    classes: int
    layout: str

    def fed(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) as the teacher reads them."""
        return images.permute(0, 2, 3, 1) if self.layout == "NHWC" else images


class GeneratorTrainer:
    """A generator, its optimizer and its losses.

    Args:
        network: from (z, labels) to images of mean 0 and deviation 1.
        canvas: makes model inputs of these.
        judge: what they are held against.
        spec: of the generator.
        losses: of the recipe.
        generator: CPU randomness of its own steps.
        device: where it trains.
    """

    def __init__(
        self,
        network: nn.Module,
        canvas: OutputToPixels,
        judge: TeacherProbe,
        *,
        spec: GeneratorConfig,
        losses: Sequence[LossTerm],
        generator: Generator,
        device: torch.device,
    ) -> None:
        self.network = network.to(device)
        self._canvas, self._judge, self._spec = canvas, judge, spec
        self._objective = Objective(losses)
        self._generator, self._device = generator, device
        self._weights = list(network.parameters())
        self._optimizer = torch.optim.Adam(self._weights, lr=spec.lr, betas=spec.betas)

    def imagine(self, count: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Return images (count, C, H, W) and the classes asked for, if any; gradients reach G."""
        n = max(count, LEAST)
        z = torch.randn(n, self._spec.latent, generator=generator).to(self._device)
        labels = None
        if self._judge.classes:
            labels = torch.randint(self._judge.classes, (n,), generator=generator)
            labels = labels.to(self._device)
        images = self._canvas(self.network(z, labels if self._spec.conditional else None))
        told = labels[:count] if labels is not None and self._spec.conditional else None
        return images[:count], told

    def step(self, opponents: Sequence[Opponent], *, batch: int, rate: float) -> dict[str, float]:
        """Take one step; return the loss and its parts.

        Args:
            opponents: from model inputs to logits; their parameters get no gradient.
            batch: images.
            rate: over the spec's.
        """
        images, labels = self.imagine(batch, self._generator)
        judge = self._judge
        x = judge.fed(images)
        logits, taps = judge.net(x)
        plain = judge.classifier
        asked = opponents if self._objective.needs("students") else ()
        seen = ImageLossInputs(
            images,
            logits,
            taps,
            judge.targets,
            labels=labels,
            features=None if plain is None else taps[plain.features],
            centers=None if plain is None else plain.rows,
            students=tuple(opponent(x) for opponent in asked),
            generator=self._generator,
        )
        loss, found = self._objective(seen)
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, self._weights, allow_unused=True)
            for weight, gradient in zip(self._weights, gradients, strict=True):
                weight.grad = None if gradient is None else gradient.nan_to_num_(0.0, 0.0, 0.0)
            self._optimizer.param_groups[0]["lr"] = self._spec.lr * rate
            self._optimizer.step()
        figures = {name: float(value.detach()) for name, value in found.items()}
        return {
            "loss": float(loss.detach()),
            "statistics": float(distance(found).detach()),
        } | figures


@dataclass(frozen=True)
class GeneratedBatch:
    """A batch for a student.

    Attributes:
        x: model inputs, detached.
        labels: (B,) the classes asked for; None where none were.
    """

    x: Tensor
    labels: Tensor | None


class OnlineGenerators:
    """All generators of a run. Iterating yields the uint8 images of its plan.

    Attributes:
        game: how they play.
        batch: images of one step of a generator.
        layout: axis order of what it draws.
    """

    def __init__(
        self,
        makers: Sequence[GeneratorTrainer],
        judge: TeacherProbe,
        *,
        inputs: InputFormat,
        spec: GeneratorConfig,
        game: CoTrainingConfig,
        batch: int,
        images: int,
        generator: Generator,
    ) -> None:
        self.game, self.batch = game, batch
        self.layout = judge.layout
        self._makers, self._judge = list(makers), judge
        self._inputs, self._spec, self._images = inputs, spec, images
        self._generator = generator

    @torch.no_grad()
    def draw(self, count: int, generator: Generator) -> GeneratedBatch:
        """Return a batch, equal shares from every generator."""
        makers = len(self._makers)
        shares = [count // makers + (i < count % makers) for i in range(makers)]
        parts = [m.imagine(n, generator) for m, n in zip(self._makers, shares, strict=True) if n]
        x = self._judge.fed(torch.cat([images for images, _ in parts]))
        labels = [told for _, told in parts if told is not None]
        return GeneratedBatch(x.detach(), torch.cat(labels) if len(labels) == len(parts) else None)

    def due(self, step: int) -> bool:
        """Tell whether the generators step before the student's step number `step`, from 0."""
        return self.game.student_steps > 0 and step % self.game.student_steps == 0

    def play(self, opponents: Sequence[Opponent], *, done: float) -> dict[str, float]:
        """Improve while students train, of which a fraction is `done`; against them, if so said."""
        rate = lr_factor(done, self._spec.lr_schedule, milestones=self._spec.milestones)
        return self.improve(opponents if self.game.opponent == "student" else (), rate=rate)

    def improve(self, opponents: Sequence[Opponent], *, rate: float = 1.0) -> dict[str, float]:
        """Let every generator take one step; return the figures of the last.

        Args:
            opponents: from model inputs to logits; may be none.
            rate: over the recipe's.
        """
        figures: dict[str, float] = {}
        for maker in self._makers:
            figures = maker.step(opponents, batch=self.batch, rate=rate)
        return figures

    @property
    def about(self) -> str:
        """One line for the report."""
        count, spec = len(self._makers), self._spec
        many = f"{count} {spec.architecture} generators" if count > 1 else ""
        trained = "trained before" if spec.checkpoint else f"{spec.iterations} steps"
        return f"{many or f'a {spec.architecture} generator'}, {trained}"

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return everything that `GeneratorConfig.kept` needs to use them again, by name."""
        arrays: dict[str, NDArray[np.generic]] = {}
        for index, maker in enumerate(self._makers):
            for name, value in maker.network.state_dict().items():
                arrays[f"{index}.{name}"] = value.detach().cpu().numpy().copy()
        return arrays

    def __iter__(self) -> Iterator[Tensor]:
        """Yield uint8 images (B, H, W, C)."""
        for first in range(0, self._images, self.batch):
            count = min(self.batch, self._images - first)
            x = self.draw(count, self._generator).x
            yield self._inputs.to_pixels(x).cpu()
