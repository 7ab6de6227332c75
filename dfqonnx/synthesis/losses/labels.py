"""Classes that a batch of images is asked for.

A hard label names one class. A soft label is a distribution; a share of the soft labels names two
classes: such images lie near decision boundaries, where a quantized network errs first (Qimera,
NeurIPS 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from dfqonnx.synthesis.losses.objective import Objective
from dfqonnx.synthesis.synthesis_context import SynthesisContext

SMOOTHING = 0.05  # of a label's mass, spread over all classes
LEAST, MOST = 0.3, 0.7  # a two-class label gives its first class this share


@dataclass(frozen=True)
class LabelTargets:
    """The labels of a batch; None where no loss needs them."""

    labels: Tensor | None = None  # (B,) classes
    soft: Tensor | None = None  # (B, K) distributions


def sample_labels(
    count: int, logits: Tensor, objective: Objective, *, context: SynthesisContext
) -> LabelTargets:
    """Draw the labels of `count` images; none where the teacher has no classes."""
    if logits.dim() != 2 or logits.shape[1] < 2:
        return LabelTargets()
    classes, generator = logits.shape[1], context.generator
    labels = soft = None
    if objective.needs("soft"):
        fraction = context.config.two_class_fraction
        soft = soft_labels(count, classes, two_class_fraction=fraction, generator=generator)
        soft = soft.to(context.device)
    if objective.needs("labels"):
        labels = balanced_labels(count, classes, generator).to(context.device)
    return LabelTargets(labels, soft)


def soft_labels(n: int, classes: int, *, two_class_fraction: float, generator: Generator) -> Tensor:
    """Return random labels (N, K), each row a distribution."""
    first = balanced_labels(n, classes, generator)
    other = (first + torch.randint(1, max(2, classes), (n,), generator=generator)) % classes
    share = LEAST + (MOST - LEAST) * torch.rand(n, 1, generator=generator)
    mixed = torch.rand(n, 1, generator=generator) < two_class_fraction
    share = torch.where(mixed, share, 1.0)
    one, two = functional.one_hot(first, classes), functional.one_hot(other, classes)
    return (1 - SMOOTHING) * (share * one + (1 - share) * two) + SMOOTHING / classes


def balanced_labels(n: int, classes: int, generator: Generator) -> Tensor:
    """Return n classes in random order, every class as often as every other, give or take one."""
    rounds = -(-n // classes)
    return torch.cat([torch.randperm(classes, generator=generator) for _ in range(rounds)])[:n]
