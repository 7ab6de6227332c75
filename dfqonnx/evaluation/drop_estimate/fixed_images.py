"""Images that no student was trained on: four procedural families, fixed by a seed.

    leaves   opaque ellipses over noise (data/probe_images)
    blends   a leaves image and another one, a + t (b - a), t uniform in 0.2 .. 0.8, under a linear
             change of light of up to a half
    clouds   noise of amplitude f^-p, p uniform in 1 .. 1.8, luminance with a third of chroma,
             standard deviation uniform in 0.1 .. 0.3 around a mean of its own
    ramps    a linear gradient between two colors plus a sinusoid of 1 to 8 periods

They differ in what they lack: edges, smooth shading, texture. A student that is far from its
teacher on all of them lost more than its training images' statistics.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dfqonnx.core.input_format import round_to_pixels
from dfqonnx.data.probe_images import make_probe_images, sample_natural_noise

FAMILIES = ("leaves", "blends", "clouds", "ramps")
MOST, FEWEST = 128, 32  # images of a family
VALUES = 2**22  # pixels of a family together, beyond FEWEST images
SEED = 20_011  # not one of a run: those count from 0

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


def make_fixed_images(shape: tuple[int, int, int], *, seed: int = SEED) -> Mapping[str, Pixels]:
    """Return images (N, H, W, C) of every family; `shape` is (H, W, C)."""
    count = max(FEWEST, min(MOST, VALUES // int(np.prod(shape))))
    rng = np.random.default_rng(seed)
    leaves = make_probe_images(shape, rng=rng, count=count)
    made = (leaves, _blends(leaves, rng), _clouds(count, shape, rng), _ramps(count, shape, rng))
    return dict(zip(FAMILIES, made, strict=True))


def _blends(leaves: Pixels, rng: Generator) -> Pixels:
    count, height, width, _ = leaves.shape
    part = rng.uniform(0.2, 0.8, (count, 1, 1, 1))
    mixed = leaves + part * (np.roll(leaves, 1, 0).astype(np.float64) - leaves)
    across, down = _axes(height, width)
    tilt = rng.uniform(-0.5, 0.5, (2, count, 1, 1))
    light = 1 + (tilt[0] * (across - 0.5) + tilt[1] * (down - 0.5))[..., None]  # (N, H, W, 1)
    return _pixels(mixed / 255 * light)


def _clouds(count: int, shape: tuple[int, int, int], rng: Generator) -> Pixels:
    height, width, channels = shape
    parts = []
    for _ in range(count):
        planes = (1 + channels, height, width)
        noise = sample_natural_noise(planes, slope=float(rng.uniform(1, 1.8)), rng=rng)
        values = noise[:1] + (0.0 if channels == 1 else 0.35) * noise[1:]  # (C, H, W)
        mean = rng.normal(0.47, 0.1) + (0.0 if channels == 1 else 0.05) * rng.normal(
            size=(channels, 1, 1)
        )
        parts.append(mean + rng.uniform(0.1, 0.3) * values)
    return _pixels(np.stack(parts).transpose(0, 2, 3, 1))


def _ramps(count: int, shape: tuple[int, int, int], rng: Generator) -> Pixels:
    height, width, channels = shape
    across, down = _axes(height, width)
    angle, tilt = rng.uniform(0, 2 * np.pi, (2, count, 1, 1))
    ends = rng.uniform(0, 1, (2, count, 1, 1, channels))
    along = (across - 0.5) * np.cos(angle) + (down - 0.5) * np.sin(angle) + 0.5  # (N, H, W)
    wave = (across - 0.5) * np.cos(tilt) + (down - 0.5) * np.sin(tilt)
    periods = rng.uniform(1, 8, (count, 1, 1))
    swing = rng.uniform(0, 0.3, (count, 1, 1, channels))
    ramp = ends[0] + along[..., None] * (ends[1] - ends[0])
    return _pixels(ramp + swing * np.sin(2 * np.pi * periods * wave)[..., None])


def _axes(height: int, width: int) -> tuple[Floats, Floats]:
    return np.linspace(0, 1, width)[None, None], np.linspace(0, 1, height)[None, :, None]


def _pixels(values: NDArray[np.floating]) -> Pixels:
    return np.ascontiguousarray(round_to_pixels(values * 255))
