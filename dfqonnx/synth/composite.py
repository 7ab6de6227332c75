"""Composites: one procedural image cut out and laid over another, a thing before a background.

    image = m a + (1 - m) b,   m = clip(1/2 + side (R - r + q n), 0, 1)

r is the distance from a point near the centre, stretched at random; R a random radius; n noise of
amplitude f^-1.8, which frays the outline by a random amount q. Noise-shaped masks are those of
Harris et al., "FMix" (2020), drawn towards the centre, where photographs show what they show.
Optimised images that begin as these instead of plain dead leaves teach better (`pipelines/
TRIALS.md`): the outline is there from the start, and optimisation only fills it.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from dfqonnx.synth.leaves import power_noise

SLOPE = 1.8
RADIUS = (0.35, 0.75)  # over half of the longer side
FRAY = 0.3  # greatest
CHUNK_VALUES = 2**22  # mask values at once


def composites(n: int, images: Tensor, *, generator: Generator) -> Tensor:
    """Return uint8 composites (n, H, W, C).

    Args:
        n: how many.
        images: uint8 (N, H, W, C), N at least 1, from which both parts are drawn.
        generator: CPU randomness.
    """
    height, width = images.shape[1:3]
    chunk = max(1, CHUNK_VALUES // (height * width))
    parts = []
    for first in range(0, n, chunk):
        count = min(chunk, n - first)
        above, below = (
            images[torch.randint(len(images), (count,), generator=generator)].float()
            for _ in range(2)
        )
        mask = masks(count, height=height, width=width, generator=generator)[..., None]
        parts.append(torch.lerp(below, above, mask).round_().to(torch.uint8))
    return torch.cat(parts) if parts else images[:0]


def masks(n: int, *, height: int, width: int, generator: Generator) -> Tensor:
    """Return soft masks (n, H, W) in 0..1: 1 inside a frayed blob near the centre."""
    side = max(height, width)
    y = ((torch.arange(height) + 0.5 - height / 2) * 2 / side)[:, None]
    x = ((torch.arange(width) + 0.5 - width / 2) * 2 / side)[None]

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, generator=generator)

    def normal(spread: float) -> Tensor:
        return spread * torch.randn(n, 1, 1, generator=generator)

    stretch = normal(0.4).exp()
    far = torch.hypot((x - normal(0.3)) * stretch, (y - normal(0.3)) / stretch)  # (n, H, W)
    radius, fray = drawn(*RADIUS), drawn(0.0, FRAY)
    noise = power_noise((n, height, width), slope=SLOPE, generator=generator)
    return (0.5 + 0.5 * side * (radius - far + fray * noise)).clamp_(0, 1)
