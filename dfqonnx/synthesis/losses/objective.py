"""The objective of synthesis: a weighted sum of losses of one batch of images.

    objective = sum of weight * loss(inputs)

A loss is a function `ImageLossInputs -> scalar` with its settings as keyword arguments, registered
by name in `IMAGE_LOSSES`. One with a memory (moving averages) is a class whose instances are such
functions, made anew for every run. Names, settings and defaults stand in `config/loss_terms`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Generator, Tensor

from dfqonnx.config.loss_terms import LossTerm
from dfqonnx.core.registry import Registry
from dfqonnx.synthesis.bn_statistics import BatchNormTargets

ImageLoss = Callable[..., Tensor]
L = TypeVar("L", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class ImageLossInputs:
    """A batch of B images, which a gradient still reaches, and what networks make of it."""

    images: Tensor  # (B, C, H, W), normalized as the teacher reads them, before they are moved
    logits: Tensor  # (B, K), the teacher's
    taps: Mapping[str, Tensor]  # the teacher's values by name, those of `targets` among them
    targets: BatchNormTargets
    labels: Tensor | None = None  # (B,) the classes asked for; None where none were
    soft: Tensor | None = None  # (B, K) the distributions asked for; None where none were
    features: Tensor | None = None  # (B, D) what the last layer reads; None if it is no plain one
    students: tuple[Tensor, ...] = ()  # logits (B, K) of every opponent on the same images
    generator: Generator | None = None  # on the CPU
    shown: Tensor | None = None  # (B, C, H, W) what the teacher read; None where `images` are it
    normalized: bool = True  # whether the training data's pixels have mean 0 and deviation 1


@runtime_checkable
class LossMemory(Protocol):
    """What a loss with a memory can do besides."""

    def save_state(self) -> dict[str, Tensor]:
        """Return what it remembers."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Remember what `save_state` returned."""
        ...


@dataclass(frozen=True)
class RegisteredLoss:
    """A loss as it is registered."""

    make: Callable[[], ImageLoss]  # called once a run
    needs: tuple[str, ...] = ()  # fields of `ImageLossInputs`, see `image_loss`


IMAGE_LOSSES: Registry[RegisteredLoss] = Registry("image loss")


def image_loss(name: str, *, needs: Iterable[str] = ()) -> Callable[[L], L]:
    """Register a function of `ImageLossInputs`, or a class whose instances are such functions.

    `needs` are the fields that it cannot do without: labels, soft, features, students;
    `statistics`, for targets that hold any; `classes`, for logits (B, K) with K above 1.
    """

    def register(loss: L) -> L:
        make: Callable[[], ImageLoss] = loss if isinstance(loss, type) else lambda: loss
        IMAGE_LOSSES.add(name)(RegisteredLoss(make, tuple(needs)))
        return loss

    return register


class Objective:
    """The sum that a recipe asks for; terms of weight 0 are left out."""

    def __init__(self, terms: Iterable[LossTerm]) -> None:
        self._parts = [
            (term, IMAGE_LOSSES[term.name].needs, IMAGE_LOSSES[term.name].make())
            for term in terms
            if term.weight
        ]

    def needs(self, what: str) -> bool:
        """Return whether some loss needs a field of `ImageLossInputs`."""
        return any(what in needs for _, needs, _ in self._parts)

    def save_state(self) -> dict[str, Tensor]:
        """Return what losses with a memory keep, by `term.name`."""
        return {
            f"{name}.{key}": value
            for name, memory in self._memories()
            for key, value in memory.save_state().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where `save_state` was."""
        for name, memory in self._memories():
            head = f"{name}."
            own = {n.removeprefix(head): v for n, v in state.items() if n.startswith(head)}
            memory.load_state(own)

    def _memories(self) -> Iterator[tuple[str, LossMemory]]:
        for term, _, loss in self._parts:
            kept: object = loss
            if isinstance(kept, LossMemory):
                yield term.name, kept

    def __call__(self, inputs: ImageLossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum, and every loss by name before its weight.

        A loss whose needs `inputs` does not meet is left out.
        """
        total: Tensor | None = None
        found: dict[str, Tensor] = {}
        for term, needs, loss in self._parts:
            if not all(_has(inputs, need) for need in needs):
                continue
            value = loss(inputs, **dict(term.settings))
            found[term.name] = value
            total = term.weight * value if total is None else total + term.weight * value
        return inputs.images.new_zeros(()) if total is None else total, found


def statistics_loss(found: Mapping[str, Tensor]) -> Tensor:
    """Return the loss on statistics among `found`, for display; 0 where there is none."""
    known = (value for name, value in found.items() if name.startswith("batchnorm"))
    return next(known, torch.zeros(()))


def _has(inputs: ImageLossInputs, need: str) -> bool:
    if need == "statistics":
        return len(inputs.targets) > 0
    if need == "classes":
        return inputs.logits.dim() == 2 and inputs.logits.shape[1] > 1
    value = getattr(inputs, need)
    return value is not None and (not isinstance(value, tuple) or len(value) > 0)
