"""Harder samples while training: images moved to where the student errs more.

    d = e sign(gradient of L(x) by x)          L = loss(x) + loss(x + d)

L is the student's whole loss, the teacher answering both; d is at most e in every normalised pixel
and is no part of the gradient. One step costs a good two of the plain ones.

Source: sample-difficulty promotion of Li et al., "Hard Sample Matters a Lot in Zero-Shot
Quantization" (HAST), CVPR 2023; e = 0.01 on CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def promoted(x: Tensor, loss: Callable[[Tensor], Tensor], epsilon: float) -> Tensor:
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
