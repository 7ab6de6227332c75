"""Seeded augmentation on the training device.

Flips and shifts move pixels: one gather on uint8 images (N, H, W, C), reflecting at the border.
Mixup blends model inputs: x_n <- l_n x_n + (1 - l_n) x_m, m a random partner, l uniform in 0..1.
The teacher labels what comes out, so no label has to be mixed.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def move(images: Tensor, *, flip: bool, shift: float, generator: Generator) -> Tensor:
    """Return images flipped left to right with probability 1/2 and shifted.

    Args:
        images: (N, H, W, C), any dtype.
        flip: whether flips occur.
        shift: largest shift as a fraction of the side.
        generator: CPU randomness.
    """
    n, height, width = images.shape[:3]
    rows = _indices(n, height, round(shift * height), generator)  # (N, H)
    columns = _indices(n, width, round(shift * width), generator)  # (N, W)
    if flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    first = torch.arange(n, device=images.device)[:, None, None]
    rows, columns = rows.to(images.device), columns.to(images.device)
    return images[first, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)


def mixup(inputs: Tensor, *, fraction: float, generator: Generator) -> Tensor:
    """Return inputs of which `fraction` are blended with another one.

    Args:
        inputs: (N, ...), float.
        fraction: share of blended ones.
        generator: CPU randomness.
    """
    n = inputs.shape[0]
    if not fraction or n < 2:
        return inputs
    weight = torch.rand(n, generator=generator)
    weight = torch.where(torch.rand(n, generator=generator) < fraction, weight, 1.0)
    partner = torch.randperm(n, generator=generator).to(inputs.device)
    weight = weight.to(inputs.device).view(-1, *[1] * (inputs.dim() - 1))
    return torch.lerp(inputs[partner], inputs, weight)


def _indices(n: int, size: int, most: int, generator: Generator) -> Tensor:
    """Return (n, size) source positions, shifted by up to `most`, reflected at the border."""
    offset = torch.randint(-most, most + 1, (n, 1), generator=generator)
    position = (torch.arange(size) + offset).abs()
    return torch.where(position >= size, 2 * (size - 1) - position, position)
