"""Textures of dead leaves: Gaussian noise whose amplitude falls with frequency as f^-p.

Luminance and chroma of photographs have such spectra, p between 0.8 and 1.5 (Tolhurst, Tadmor and
Chao 1992); the planes of one texture share most of it, since photographs are nearly grey.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from dfqonnx.synth.look import Look

TEXTURE_VALUES = 2**23  # floats in the pool of textures


def power_noise(shape: tuple[int, ...], *, slope: float, generator: Generator) -> Tensor:
    """Return noise (..., H, W) of amplitude f^-slope, mean 0 and variance 1 in each plane."""
    height, width = shape[-2:]
    down = torch.fft.fftfreq(height)[:, None]
    across = torch.fft.rfftfreq(width)[None]
    frequency = (down.square() + across.square()).sqrt()
    frequency[0, 0] = torch.inf
    spectrum = torch.fft.rfft2(torch.randn(shape, generator=generator))
    noise: Tensor = torch.fft.irfft2(spectrum * frequency.pow(-slope), s=(height, width))
    spread = noise.square().mean((-2, -1), keepdim=True).sqrt()
    return noise / spread.clamp_min(1e-12)


def textures(look: Look, size: tuple[int, int, int], generator: Generator) -> Tensor:
    """Return a pool of textures (P, C, H, W): one shared luminance, a little chroma."""
    height, width, channels = size
    count = max(8, min(512, TEXTURE_VALUES // (height * width * (channels + 1))))
    noise = power_noise((count, channels + 1, height, width), slope=look.slope, generator=generator)
    if channels == 1:
        return noise[:, :1]
    return 0.85 * noise[:, :1] + 0.25 * noise[:, 1:]
