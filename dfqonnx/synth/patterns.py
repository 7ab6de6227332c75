"""Patterns: smooth random fields painted by random small networks of coordinates, no teacher.

A compositional pattern-producing network (Stanley, "Compositional pattern producing networks",
2007) reads where a pixel lies and writes its colour:

    h_0 = (x, y, r, |x|, |y|, 1)                 of coordinates turned, scaled and moved at random
    h_1 = f(W_0 h_0),  h_2 = f(W_1 h_1)...       2 to 4 layers of 16 units
    f   = sin 2h, tanh 2h, exp(-h^2) or relu(h) - 1/2, each unit its own

with W random normal. Colours are drawn as those of dead leaves are: one luminance, a little chroma.
Where dead leaves have edges and flat parts, patterns have curves, rings and shades; a student that
sees both stays closer to its teacher on photographs than with either (`pipelines/TRIALS.md`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from dfqonnx.synth.leaves import power_noise

CHUNK_VALUES = 2**20  # units of one layer of one chunk
SIDE = 64  # painted no larger: fields this smooth are stretched instead


@dataclass(frozen=True)
class Weave:
    """What patterns look like; intensities in 0..1.

    Attributes:
        units: of every layer.
        least: layers.
        most: layers.
        first: standard deviation of the first layer's weights, over 1 / sqrt(inputs).
        later: of the later ones.
        level: mean intensity.
        level_spread: its standard deviation over images.
        contrast: standard deviation over an image.
        contrast_spread: standard deviation of its logarithm over images.
        chroma: strength of the channels' own colour, over that of luminance.
        grain: greatest strength of 1/f noise laid over.
    """

    units: int = 16
    least: int = 2
    most: int = 4
    first: float = 2.0
    later: float = 1.6
    level: float = 0.47
    level_spread: float = 0.12
    contrast: float = 0.25
    contrast_spread: float = 0.3
    chroma: float = 0.28
    grain: float = 0.04


def patterns(
    n: int,
    *,
    height: int,
    width: int,
    channels: int,
    generator: Generator,
    weave: Weave | None = None,
) -> Iterator[Tensor]:
    """Yield chunks of uint8 images (B, H, W, C), `n` in all.

    Args:
        n: number of images.
        height: in pixels.
        width: in pixels.
        channels: 3 for RGB; any other number gets independent chroma.
        generator: CPU randomness.
        weave: parameters.
    """
    weave = weave or Weave()
    shrink = max(1.0, max(height, width) / SIDE)
    small = (max(1, round(height / shrink)), max(1, round(width / shrink)))
    chunk = max(1, min(64, CHUNK_VALUES // (small[0] * small[1] * weave.units)))
    for first in range(0, n, chunk):
        count = min(chunk, n - first)
        fields = _fields((count, channels + 1, *small), weave, generator)  # (B, C + 1, h, w)
        if shrink > 1:
            fields = functional.interpolate(fields, (height, width), mode="bicubic")
        images = _coloured(fields, weave, generator)  # (B, C, H, W)
        yield (images.clamp_(0, 1) * 255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _fields(shape: tuple[int, int, int, int], weave: Weave, generator: Generator) -> Tensor:
    """Return random fields (B, F, h, w), mean 0 and variance 1 in each plane."""
    batch, count = shape[:2]
    h = _coordinates(batch, shape[2:], generator)  # (B, h w, 6)
    span = weave.most - weave.least + 1
    layers = weave.least + int(torch.randint(span, (), generator=generator))
    for layer in range(layers):
        gain = (weave.later if layer else weave.first) / math.sqrt(h.shape[2])
        weights = gain * torch.randn(batch, h.shape[2], weave.units, generator=generator)
        kinds = torch.randint(4, (batch, 1, weave.units), generator=generator)
        h = _activated(torch.bmm(h, weights), kinds)  # (B, h w, units)
    out = torch.bmm(h, torch.randn(batch, weave.units, count, generator=generator))
    out = out - out.mean(1, keepdim=True)
    out = out / out.square().mean(1, keepdim=True).sqrt().clamp_min(1e-3)
    return out.transpose(1, 2).reshape(shape)


def _coordinates(batch: int, size: tuple[int, int], generator: Generator) -> Tensor:
    """Return (x, y, r, |x|, |y|, 1) of every pixel, (B, h w, 6); the longer side spans -1..1."""
    height, width = size
    down = (torch.arange(height) + 0.5 - height / 2) * 2 / max(size)
    across = (torch.arange(width) + 0.5 - width / 2) * 2 / max(size)
    grid = torch.stack(torch.meshgrid(down, across, indexing="ij"), -1).reshape(1, -1, 2)
    grid = grid - 0.5 * torch.randn(batch, 1, 2, generator=generator)
    angle = 2 * math.pi * torch.rand(batch, 1, generator=generator)
    scale = torch.exp(0.5 * torch.randn(batch, 1, generator=generator))
    x = (grid[..., 1] * angle.cos() + grid[..., 0] * angle.sin()) * scale  # (B, h w)
    y = (grid[..., 0] * angle.cos() - grid[..., 1] * angle.sin()) * scale
    return torch.stack([x, y, torch.hypot(x, y), x.abs(), y.abs(), torch.ones_like(x)], -1)


def _activated(h: Tensor, kinds: Tensor) -> Tensor:
    """Return f(h), every unit's own: `kinds` (B, 1, units) says which."""
    waves = torch.where(kinds == 0, torch.sin(2 * h), torch.tanh(2 * h))
    bumps = torch.where(kinds == 2, torch.exp(-h.square()), torch.relu(h) - 0.5)
    return torch.where(kinds < 2, waves, bumps)


def _coloured(fields: Tensor, weave: Weave, generator: Generator) -> Tensor:
    """Return float images (B, C, H, W) of fields (B, C + 1, H, W), not yet clamped to 0..1."""
    batch, channels = len(fields), fields.shape[1] - 1

    def normal(*size: int) -> Tensor:
        return torch.randn(batch, *size, generator=generator)

    own = 0.0 if channels == 1 else weave.chroma
    paint = 0.9 * fields[:, :1] + own * fields[:, 1:]
    contrast = weave.contrast * torch.exp(weave.contrast_spread * normal(1, 1, 1))
    tint = 0.0 if channels == 1 else 0.5
    mean = weave.level + weave.level_spread * (normal(1, 1, 1) + tint * normal(channels, 1, 1))
    noise = power_noise((batch, channels, *fields.shape[2:]), slope=1.0, generator=generator)
    grain = weave.grain * torch.rand(batch, 1, 1, 1, generator=generator)
    return mean + contrast * paint + grain * noise
