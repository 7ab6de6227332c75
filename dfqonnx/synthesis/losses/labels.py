"""The terms of an optimized image's loss that need no statistics.

Classes: cross-entropy to soft labels less the labels' own entropy, so 0 is a perfect match. A share
of the images asks for two classes at once: such images lie near decision boundaries, where a
quantized network errs first (Qimera, NeurIPS 2021).

Smoothness: mean absolute difference of neighbors (total variation, Rudin, Osher and Fatemi 1992).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

SMOOTHING = 0.05  # of a label's mass, spread over all classes
LEAST, MOST = 0.3, 0.7  # a two-class label gives its first class this share


def soft_labels(n: int, classes: int, *, boundary: float, generator: Generator) -> Tensor:
    """Return random labels (N, K), each row a distribution; `boundary` of them name two classes."""
    first = balanced_labels(n, classes, generator)
    other = (first + torch.randint(1, max(2, classes), (n,), generator=generator)) % classes
    share = LEAST + (MOST - LEAST) * torch.rand(n, 1, generator=generator)
    share = torch.where(torch.rand(n, 1, generator=generator) < boundary, share, 1.0)
    hard = share * functional.one_hot(first, classes) + (1 - share) * functional.one_hot(
        other, classes
    )
    return (1 - SMOOTHING) * hard + SMOOTHING / classes


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return mean KL(labels || softmax(logits))."""
    return functional.kl_div(functional.log_softmax(logits, 1), labels, reduction="batchmean")


def total_variation(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbors, down plus across, of (N, C, H, W)."""
    total = images.new_zeros(())
    if images.shape[2] > 1:
        total = total + (images[:, :, 1:] - images[:, :, :-1]).abs().mean()
    if images.shape[3] > 1:
        total = total + (images[..., 1:] - images[..., :-1]).abs().mean()
    return total


def balanced_labels(n: int, classes: int, generator: Generator) -> Tensor:
    """Return n classes in random order, every class as often as every other, give or take one."""
    rounds = -(-n // classes)
    return torch.cat([torch.randperm(classes, generator=generator) for _ in range(rounds)])[:n]
