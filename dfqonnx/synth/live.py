"""Generators that can be drawn from, and go on learning while a student trains.

Every batch takes equal shares from all of them; each learns from its own images. What they draw is
detached: a student that learns from it hands them no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from dfqonnx.spec.inputs import InputSpec
from dfqonnx.spec.synth import GameSpec, GeneratorSpec
from dfqonnx.synth.fall import fallen
from dfqonnx.synth.maker import Judge, Maker, Opponent
from dfqonnx.synth.pixels import to_pixels


@dataclass(frozen=True)
class Drawn:
    """A batch for a student.

    Attributes:
        x: model inputs, detached.
        labels: (B,) the classes asked for; None where none were.
    """

    x: Tensor
    labels: Tensor | None


class Live:
    """All generators of a run. Iterating yields the uint8 images of its plan.

    Attributes:
        game: how they play.
        batch: images of one step of a generator.
        layout: axis order of what it draws.
    """

    def __init__(
        self,
        makers: Sequence[Maker],
        judge: Judge,
        *,
        inputs: InputSpec,
        spec: GeneratorSpec,
        game: GameSpec,
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
    def draw(self, count: int, generator: Generator) -> Drawn:
        """Return a batch, equal shares from every generator."""
        makers = len(self._makers)
        shares = [count // makers + (i < count % makers) for i in range(makers)]
        parts = [m.imagine(n, generator) for m, n in zip(self._makers, shares, strict=True) if n]
        x = self._judge.fed(torch.cat([images for images, _ in parts]))
        labels = [told for _, told in parts if told is not None]
        return Drawn(x.detach(), torch.cat(labels) if len(labels) == len(parts) else None)

    def due(self, step: int) -> bool:
        """Tell whether the generators step before the student's step number `step`, from 0."""
        return self.game.student_steps > 0 and step % self.game.student_steps == 0

    def play(self, opponents: Sequence[Opponent], *, done: float) -> dict[str, float]:
        """Improve while students train, of which a fraction is `done`; against them, if so said."""
        rate = fallen(done, self._spec.fall, self._spec.milestones)
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
        trained = "trained before" if spec.kept else f"{spec.iterations} steps"
        return f"{many or f'a {spec.architecture} generator'}, {trained}"

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return everything that `GeneratorSpec.kept` needs to use them again, by name."""
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
            yield to_pixels(x, self._inputs).cpu()
