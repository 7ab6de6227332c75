"""Channel attention: which channels of a block are loud.

    a_c = mean over space of f_c^2, divided by its norm over channels
    loss = sum over blocks of mean ( a^s - a^t )^2

Source: Li et al., "Hard Sample Matters a Lot in Zero-Shot Quantization" (HAST), CVPR 2023.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


def attention_loss(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Return the loss over blocks (N, C, ...); 0 without blocks."""
    terms = [
        functional.mse_loss(channel_attention(value), channel_attention(teacher[name]))
        for name, value in student.items()
        if value.dim() > 2
    ]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def channel_attention(value: Tensor) -> Tensor:
    """Return unit vectors (N, C) of a value (N, C, ...)."""
    return functional.normalize(value.flatten(2).square().mean(2), dim=1)
