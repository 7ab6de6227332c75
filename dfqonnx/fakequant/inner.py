"""The inner product of two tensors of one shape, without a temporary where memory order allows."""

from __future__ import annotations

import torch
from torch import Tensor


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Return sum a b, a scalar."""
    if a.stride() == b.stride():
        if a.is_contiguous():
            return torch.dot(a.reshape(-1), b.reshape(-1))
        if a.dim() == 4 and a.is_contiguous(memory_format=torch.channels_last):
            return torch.dot(a.permute(0, 2, 3, 1).reshape(-1), b.permute(0, 2, 3, 1).reshape(-1))
    return (a * b).sum()
