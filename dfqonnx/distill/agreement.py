"""How closely a student follows its teacher, without labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dfqonnx.distill.losses import kd_loss


@dataclass(frozen=True)
class Agreement:
    """Closeness of two models on the same images.

    Attributes:
        top1: fraction of images with the same most likely class.
        kl: mean KL(teacher || student), in nats.
    """

    top1: float
    kl: float

    def better_than(self, other: Agreement) -> bool:
        """Tell by divergence: on a few hundred images `top1` is too coarse to choose by."""
        return self.kl < other.kl

    def worse_than(self, other: Agreement) -> bool:
        """Tell whether both measures are worse; one alone is within the noise of a small set."""
        return self.kl > other.kl and self.top1 < other.top1


@torch.no_grad()
def measure_agreement(
    student: nn.Module, teacher: nn.Module, inputs: Iterable[Tensor]
) -> Agreement:
    """Return the agreement over batches of model inputs; nothing and infinity without any."""
    same, divergence, total = 0.0, 0.0, 0
    for x in inputs:
        s, t = student(x)[0], teacher(x)[0]  # (N, K)
        n = x.shape[0]
        rows = s.flatten(0, -2).shape[0] / n
        same += float((s.argmax(-1) == t.argmax(-1)).sum()) / rows
        divergence += float(kd_loss(s, t, 1.0)) * n
        total += n
    if not total:
        return Agreement(0.0, float("inf"))
    return Agreement(same / total, divergence / total)
