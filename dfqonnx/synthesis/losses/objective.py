"""What images are made to lower: a weighted sum of losses, each of what was seen of a batch.

    loss = sum of weight * loss(seen)

A loss is a function `Seen -> scalar` with its settings as keyword arguments, filed by name in
`IMAGE_LOSSES`; one with a memory (moving averages) is a class whose instances are such functions,
made anew for every run. Names, settings and defaults stand in `config/loss_terms`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor

from dfqonnx.config.loss_terms import LossTerm
from dfqonnx.core.registry import Registry
from dfqonnx.synthesis.bn_statistics import BatchNormTargets

ImageLoss = Callable[..., Tensor]
L = TypeVar("L", bound=Callable[..., Any])


@dataclass(frozen=True)
class ImageLossInputs:
    """What is known of a batch of B images while a gradient still reaches them.

    Attributes:
        images: (B, C, H, W), normalized as the teacher reads them.
        logits: (B, K), the teacher's.
        taps: the teacher's values by name: those of `targets`, and what else was asked for.
        targets: the statistics of the training data.
        labels: (B,) the class asked for; None where none was.
        soft: (B, K) the distribution asked for; None where none was.
        features: (B, D) what the teacher's last layer reads; None where it is no plain layer.
        centers: (K, D) rows of that layer; None likewise.
        students: logits (B, K) of every opponent on the same images.
        generator: CPU randomness.
    """

    images: Tensor
    logits: Tensor
    taps: Mapping[str, Tensor]
    targets: BatchNormTargets
    labels: Tensor | None = None
    soft: Tensor | None = None
    features: Tensor | None = None
    centers: Tensor | None = None
    students: tuple[Tensor, ...] = ()
    generator: Generator | None = None


@dataclass(frozen=True)
class RegisteredLoss:
    """A filed loss.

    Attributes:
        make: gives the function; called once a run.
        needs: names of `Seen`'s fields that must not be empty; without them the loss is 0.
    """

    make: Callable[[], ImageLoss]
    needs: tuple[str, ...] = ()


IMAGE_LOSSES: Registry[RegisteredLoss] = Registry("image loss")


def image_loss(name: str, *, needs: Iterable[str] = ()) -> Callable[[L], L]:
    """File a function of `Seen`, or a class whose instances are such functions.

    Args:
        name: in recipes; `config/loss_terms` describes it.
        needs: fields of `Seen` that it cannot do without: labels, soft, features, students;
            `statistics`, for targets that hold any; `classes`, for logits (B, K) with K above 1.
    """

    def file(loss: L) -> L:
        make: Callable[[], ImageLoss] = loss if isinstance(loss, type) else lambda: loss
        IMAGE_LOSSES.add(name)(RegisteredLoss(make, tuple(needs)))
        return loss

    return file


class Objective:
    """The sum that a recipe asks for.

    Args:
        terms: of the recipe; those of weight 0 are left out.
    """

    def __init__(self, terms: Iterable[LossTerm]) -> None:
        self._parts = [
            (term, IMAGE_LOSSES[term.name].needs, IMAGE_LOSSES[term.name].make())
            for term in terms
            if term.weight
        ]

    def needs(self, what: str) -> bool:
        """Tell whether some loss needs a field of `Seen`."""
        return any(what in needs for _, needs, _ in self._parts)

    def __call__(self, seen: ImageLossInputs) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum, and every loss by name before its weight.

        A loss whose needs `seen` does not meet is left out.
        """
        total: Tensor | None = None
        found: dict[str, Tensor] = {}
        for term, needs, loss in self._parts:
            if not all(_there(seen, need) for need in needs):
                continue
            value = loss(seen, **dict(term.settings))
            found[term.name] = value
            total = term.weight * value if total is None else total + term.weight * value
        return seen.images.new_zeros(()) if total is None else total, found


def distance(found: Mapping[str, Tensor]) -> Tensor:
    """Return the loss on statistics among `found`, for display; 0 without one."""
    for name, value in found.items():
        if name.startswith("batchnorm"):
            return value
    return torch.zeros(())


def _there(seen: ImageLossInputs, need: str) -> bool:
    if need == "statistics":
        return len(seen.targets) > 0
    if need == "classes":
        return seen.logits.dim() == 2 and seen.logits.shape[1] > 1
    value = getattr(seen, need)
    return value is not None and (not isinstance(value, tuple) or len(value) > 0)
