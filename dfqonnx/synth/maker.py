"""One generator in training.

    z ~ N(0, I), y uniform;  x = canvas(G(z, y));  G's weights follow  - gradient of losses(x)

The gradient is asked for G's weights alone: teacher and opponents hand it on and keep none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from dfqonnx.convert.net import Net
from dfqonnx.spec.synth import GeneratorSpec
from dfqonnx.spec.terms import Term
from dfqonnx.synth.classifier import Classifier
from dfqonnx.synth.generator import Canvas
from dfqonnx.synth.objective import Objective, Seen, distance
from dfqonnx.synth.statistics import Targets

Opponent = Callable[[Tensor], Tensor]
LEAST = 16  # images of a pass: the generator normalises by its own batch


@dataclass(frozen=True)
class Judge:
    """What a generator's images are held against; shared by all generators.

    Attributes:
        net: the teacher, tapped where targets and classifier want it.
        targets: the statistics of the training data.
        classifier: the teacher's last layer, where it is a plain one.
        classes: K; 0 where the teacher tells none apart.
        layout: axis order that the teacher reads.
    """

    net: Net
    targets: Targets
    classifier: Classifier | None
    classes: int
    layout: str

    def fed(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) as the teacher reads them."""
        return images.permute(0, 2, 3, 1) if self.layout == "NHWC" else images


class Maker:
    """A generator, its optimiser and its losses.

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
        canvas: Canvas,
        judge: Judge,
        *,
        spec: GeneratorSpec,
        losses: Sequence[Term],
        generator: Generator,
        device: torch.device,
    ) -> None:
        self.network = network.to(device)
        self._canvas, self._judge, self._spec = canvas, judge, spec
        self._objective = Objective(losses)
        self._generator, self._device = generator, device
        self._weights = list(network.parameters())
        self._optimiser = torch.optim.Adam(self._weights, lr=spec.rate, betas=spec.betas)

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
        seen = Seen(
            images,
            logits,
            taps,
            judge.targets,
            labels=labels,
            features=None if plain is None else taps[plain.features],
            centres=None if plain is None else plain.rows,
            students=tuple(opponent(x) for opponent in asked),
            generator=self._generator,
        )
        loss, found = self._objective(seen)
        if loss.requires_grad:
            gradients = torch.autograd.grad(loss, self._weights, allow_unused=True)
            for weight, gradient in zip(self._weights, gradients, strict=True):
                weight.grad = None if gradient is None else gradient.nan_to_num_(0.0, 0.0, 0.0)
            self._optimiser.param_groups[0]["lr"] = self._spec.rate * rate
            self._optimiser.step()
        figures = {name: float(value.detach()) for name, value in found.items()}
        return {
            "loss": float(loss.detach()),
            "statistics": float(distance(found).detach()),
        } | figures
